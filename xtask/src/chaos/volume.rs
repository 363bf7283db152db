//! A file system that can lose its power: ext4 in a file, mounted by a loop device.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

use super::no_fsync::compile_c;

const SIZE_BYTES: u64 = 8 << 30;

/// Stops the file system of a directory; nothing that waits in memory reaches the disk, the
/// journal neither (`EXT4_GOING_FLAGS_NOLOGFLUSH`).
const SHUTDOWN_SOURCE: &str = r#"
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int argc, char **argv) {
    uint32_t no_log_flush = 2;
    int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
    if (fd < 0 || ioctl(fd, _IOR('X', 125, uint32_t), &no_log_flush)) {
        perror("shutdown");
        return 1;
    }
    return 0;
}
"#;

/// The file system. The guard unmounts it if this process cannot.
#[derive(Debug)]
pub(super) struct Volume {
    image: PathBuf,
    mount_point: PathBuf,
    shutdown: PathBuf,
}

impl Volume {
    /// Makes and mounts one below `directory`.
    pub(super) fn create(directory: &Path) -> anyhow::Result<Self> {
        let volume = Self {
            image: directory.join("image"),
            mount_point: directory.join("volume"),
            shutdown: compile_c(directory, "shutdown", SHUTDOWN_SOURCE)?,
        };
        File::create(&volume.image)?.set_len(SIZE_BYTES)?;
        std::fs::create_dir(&volume.mount_point)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&volume.image))?;
        volume.mount()?;
        Ok(volume)
    }

    pub(super) fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Makes all there is so far survive: what a broker does at its very first start is not
    /// what is tested.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        run(Command::new("sync").arg("-f").arg(&self.mount_point))
    }

    /// From here on nothing reaches the disk.
    pub(super) fn lose_power(&self) -> anyhow::Result<()> {
        run(Command::new(&self.shutdown).arg(&self.mount_point))
    }

    /// Comes back with what the disk has. Nobody may have a file open.
    pub(super) fn mount_again(&self) -> anyhow::Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&self) -> anyhow::Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.mount_point))
    }

    fn unmount(&self) -> anyhow::Result<()> {
        // A killed process may take a moment to let go of its files.
        for _ in 0..200 {
            let mut umount = Command::new("umount");
            let output = umount
                .arg(&self.mount_point)
                .output()
                .context("cannot run umount")?;
            if output.status.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{} stays busy", self.mount_point.display())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{error:#}; the guard will detach it");
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command
        .status()
        .with_context(|| format!("cannot run {shown}"))?;
    ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}
