/* Kill the process at the N-th change of files below a folder: before it, so that it is not done.

   Preloaded, it stands in front of the C library's calls that change files or make them durable;
   SQLite and Python both come through here. Counted is process-wide, from crash_arm() on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[4096];
static atomic_long left = -1; /* steps until the kill; negative: not armed, or only counting */
static atomic_long count;

/* Kill at step n from now on of those below path; 0 counts and never kills. */
void crash_arm(const char *path, long n) {
    strncpy(folder, path, sizeof folder - 1);
    atomic_store(&count, 0);
    atomic_store(&left, n ? n : -1);
}

long crash_count(void) { return atomic_load(&count); }

static void step(void) {
    atomic_fetch_add(&count, 1);
    if (atomic_load(&left) > 0 && atomic_fetch_sub(&left, 1) == 1) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
}

static void step_at(const char *path) {
    if (*folder && !strncmp(path, folder, strlen(folder)))
        step();
}

static void step_of(int file) {
    char link[64], path[4096];
    ssize_t length;
    if (!*folder)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        step_at(path);
    }
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int file) { step_of(file); return REAL(fsync)(file); }
int fdatasync(int file) { step_of(file); return REAL(fdatasync)(file); }
int ftruncate(int file, off_t size) { step_of(file); return REAL(ftruncate)(file, size); }
int ftruncate64(int file, off64_t size) { step_of(file); return REAL(ftruncate64)(file, size); }
ssize_t write(int file, const void *bytes, size_t size) {
    step_of(file);
    return REAL(write)(file, bytes, size);
}
ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) {
    step_of(file);
    return REAL(pwrite)(file, bytes, size, at);
}
ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) {
    step_of(file);
    return REAL(pwrite64)(file, bytes, size, at);
}
int rename(const char *old, const char *new) { step_at(old); return REAL(rename)(old, new); }
int unlink(const char *path) { step_at(path); return REAL(unlink)(path); }
