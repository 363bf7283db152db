//! Histories of flow on disk, so that a horizon knows after a restart what it knew before.
//!
//! One file, written whole every few minutes and at a clean stop: a temporary one is synced and
//! renamed. What is lost with it is knowledge of the past, so nothing about it keeps a node from
//! starting or running.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use staunch_http::SharedStatistics;
use staunch_stats::{HISTORIES_SIZE_BYTES_MAX, KeptHistories};
use tokio::time;

/// Name of the file in the data directory.
const FILE_NAME: &str = "histories";

/// The name it has until it is whole.
const FILE_NAME_TEMP: &str = "histories.temp";

/// How often it is written. Of a crash at most this much of the past is lost.
const INTERVAL: Duration = Duration::from_mins(5);

/// Gives the histories of the last life of the process to the statistics, if there are any.
pub(crate) fn restore(data_dir: &Path, statistics: &SharedStatistics) {
    let path = data_dir.join(FILE_NAME);
    match read(&path) {
        Ok(Some(kept)) => {
            let queues = kept.queues.len();
            tracing::info!(
                event = "horizon.restored",
                queues,
                "flow histories are read"
            );
            statistics.restore(kept);
        }
        Ok(None) => {}
        Err(error) => {
            let path = path.display().to_string();
            tracing::warn!(
                event = "horizon.forgotten",
                path,
                error,
                "flow histories cannot be read: horizons start from nothing"
            );
        }
    }
}

/// Writes the histories again and again, for as long as the process lives.
pub(crate) async fn keep(data_dir: PathBuf, statistics: SharedStatistics) {
    let mut ticker = time::interval(INTERVAL);
    ticker.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    // The first tick comes at once, when there is nothing to write.
    ticker.tick().await;
    loop {
        ticker.tick().await;
        save(data_dir.clone(), statistics.clone()).await;
    }
}

/// Writes the histories.
pub(crate) async fn save(data_dir: PathBuf, statistics: SharedStatistics) {
    let saving = tokio::task::spawn_blocking(move || {
        let bytes = statistics.histories().encode();
        write(&data_dir, &bytes)
    });
    let error = match saving.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(
        event = "horizon.not_saved",
        error,
        "flow histories cannot be written"
    );
}

/// None if there is no file.
fn read(path: &Path) -> Result<Option<KeptHistories>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    let size_max = HISTORIES_SIZE_BYTES_MAX as u64 + 1;
    let read = file.take(size_max).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    let kept = KeptHistories::decode(&bytes).map_err(|error| error.to_string())?;
    Ok(Some(kept))
}

fn write(data_dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let temp = data_dir.join(FILE_NAME_TEMP);
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&temp)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    let directory = File::open(data_dir)?;
    fs::rename(&temp, data_dir.join(FILE_NAME))?;
    directory.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        assert_eq!(read(&path), Ok(None));
        let kept = KeptHistories::default();
        write(directory.path(), &kept.encode()).unwrap();
        assert_eq!(read(&path), Ok(Some(kept)));
        let mut bytes = fs::read(&path).unwrap();
        bytes[14] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(read(&path).unwrap_err().contains("damaged"));
        fs::write(&path, "else").unwrap();
        assert!(read(&path).unwrap_err().contains("no file of histories"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read(&path).is_err());
    }
}
