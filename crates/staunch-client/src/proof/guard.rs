//! Cleans up whatever way this process ends, `kill -9` included.
//!
//! A shell in a session of its own reads from a pipe that only this process writes. When the
//! pipe closes, it kills the processes it was last told of, runs the script `undo` in the directory
//! if there is one, unmounts everything below the directory and removes it.

use std::{
    cell::RefCell,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

/// `$1` is the directory.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=
while read -r line; do pids=$line; done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
sleep 0.2
if [ -f "$1/undo" ]; then sh "$1/undo"; fi
for point in "$1"/*; do
    if mountpoint -q "$point"; then umount "$point" 2>/dev/null || umount -l "$point"; fi
done
rm -rf --one-file-system "$1"
"#;

/// The directory of a run and its guard.
#[derive(Debug)]
pub struct Guard {
    directory: PathBuf,
    shell: Child,
    pipe: RefCell<Option<ChildStdin>>,
}

impl Guard {
    /// Makes a directory for `purpose` below the temporary one and starts its guard.
    ///
    /// # Errors
    /// When either fails.
    pub fn new(purpose: &str) -> io::Result<Self> {
        let name = format!("staunch-{purpose}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory)?;
        let mut shell = Command::new("setsid")
            .args(["--wait", "sh", "-c", SCRIPT, "guard"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .spawn()?;
        let pipe = RefCell::new(shell.stdin.take());
        Ok(Self {
            directory,
            shell,
            pipe,
        })
    }

    /// Where everything belongs that has to go in the end.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Remembers what has to be killed, instead of what it was told before.
    ///
    /// # Errors
    /// When the guard is gone.
    pub fn watch(&self, pids: &[u32]) -> io::Result<()> {
        let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
        let mut pipe = self.pipe.borrow_mut();
        let pipe = pipe.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(writeln!(pipe, "{}", pids.join(" "))?)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.borrow_mut().take());
        // It cleans up by itself; waiting only keeps the order of what is printed.
        drop(self.shell.wait());
    }
}
