/* Makes one system call fail on files of one kind, for LD_PRELOAD.
 *
 *   FAULT_CALL   fdatasync, fsync or pwrite64
 *   FAULT_FILE   fails only on files whose path contains this; files in the making (.temp) must be
 *                asked for
 *   FAULT_ARMED  fails only once this file exists
 *   FAULT_SKIP   so many matching calls after that still succeed
 *   FAULT_TIMES  so many then fail with EIO, 0: all of them
 *   FAULT_LOG    each matching call after the first failure is noted here, with its path
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_int calls;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int fails(const char *call, int fd) {
    const char *wanted = getenv("FAULT_CALL"), *armed = getenv("FAULT_ARMED");
    const char *file = getenv("FAULT_FILE"), *log = getenv("FAULT_LOG");
    char link[64], path[4096], line[4200];
    if (!wanted || strcmp(wanted, call) != 0 || !file || !log) return 0;
    if (armed && access(armed, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, file)) return 0;
    if (strstr(path, ".temp") && !strstr(file, ".temp")) return 0;
    long position = atomic_fetch_add(&calls, 1) - number("FAULT_SKIP");
    if (position < 0) return 0;
    int failed = number("FAULT_TIMES") == 0 || position < number("FAULT_TIMES");
    int out = open(log, O_WRONLY | O_APPEND | O_CREAT, 0600);
    int size = snprintf(line, sizeof line, "%s %s\n", failed ? "failed" : "passed", path);
    if (out >= 0 && write(out, line, size) == size) close(out);
    return failed;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (fails("fdatasync", fd)) { errno = EIO; return -1; }
    return real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (fails("fsync", fd)) { errno = EIO; return -1; }
    return real(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    if (fails("pwrite64", fd)) { errno = EIO; return -1; }
    return real(fd, data, size, offset);
}
