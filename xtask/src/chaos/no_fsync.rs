//! A launcher under which fsync succeeds and does nothing.
//!
//! A system call filter answers fsync and its relatives with 0 before the kernel sees them. A
//! library that is preloaded would miss programs that make their system calls themselves.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

const SOURCE: &str = r#"
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

int main(int argc, char **argv) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsync, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fdatasync, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_msync, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sync_file_range, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_syncfs, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
    };
    struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };
    if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("no_fsync");
        return 70;
    }
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 71;
}
"#;

/// Builds the launcher in `directory`; it takes a program and its arguments.
pub(super) fn compile(directory: &Path) -> anyhow::Result<PathBuf> {
    compile_c(directory, "no_fsync", SOURCE)
}

/// Compiles one C file.
pub(super) fn compile_c(directory: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let source = directory.join(format!("{name}.c"));
    let program = directory.join(name);
    std::fs::write(&source, text)?;
    let status = Command::new("cc")
        .arg("-O1")
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .status();
    ensure!(
        status.context("cannot run cc")?.success(),
        "cc failed for {name}"
    );
    Ok(program)
}
