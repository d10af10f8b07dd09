"""Builds the C source of `pyrun.kernel._kernel`: run as `python build_kernel.py OUTPUT.c`.

Out of line, because an in-line cdef is parsed at every import (50 ms). Only what `syscalls.py` calls is
declared. Numbers and structures come from the kernel's own headers; where glibc has no wrapper the raw
system call is used, so that old C libraries do not matter.
"""

from __future__ import annotations

import sys

from cffi import FFI

CDEF = """
int k_unshare(int flags);
int k_setns(int fd, int nstype);
int k_clone3(uint64_t flags, int cgroup, int *pidfd);
int k_mount(const char *source, const char *target, const char *fstype, unsigned long flags, const char *data);
int k_umount2(const char *target, int flags);
int k_pivot_root(const char *new_root, const char *put_old);
int k_open_tree(int dfd, const char *path, unsigned int flags);
int k_move_mount(int from_dfd, const char *from_path, int to_dfd, const char *to_path, unsigned int flags);
int k_mount_setattr(int dfd, const char *path, unsigned int flags,
                    uint64_t attr_set, uint64_t attr_clr, uint64_t propagation);
int k_openat2(int dfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int k_pidfd_open(int pid, unsigned int flags);
int k_pidfd_send_signal(int pidfd, int sig);
int k_prctl(int option, unsigned long arg2, unsigned long arg3, unsigned long arg4, unsigned long arg5);
int k_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable);
int k_capget(uint64_t *effective, uint64_t *permitted, uint64_t *inheritable);
int k_close_range(unsigned int first, unsigned int last, unsigned int flags);
int k_sigmask_all(int block);
int k_inotify_init1(int flags);
int k_inotify_add_watch(int fd, const char *path, uint32_t mask);
"""

SOURCE = r"""
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/capability.h>
#include <linux/types.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

struct k_clone_args { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size,
                      tls, set_tid, set_tid_size, cgroup; };
struct k_open_how { uint64_t flags, mode, resolve; };
struct k_mount_attr { uint64_t attr_set, attr_clr, propagation, userns_fd; };

static int k_unshare(int flags) { return unshare(flags); }
static int k_setns(int fd, int nstype) { return setns(fd, nstype); }

static int k_clone3(uint64_t flags, int cgroup, int *pidfd)
{
    struct k_clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = flags;
    args.exit_signal = SIGCHLD;
    args.pidfd = (uint64_t)(uintptr_t)pidfd;
    if (cgroup >= 0) {
        args.flags |= 0x200000000ULL; /* CLONE_INTO_CGROUP */
        args.cgroup = (uint64_t)cgroup;
    }
    return (int)syscall(SYS_clone3, &args, sizeof args);
}

static int k_mount(const char *source, const char *target, const char *fstype, unsigned long flags,
                   const char *data) { return mount(source, target, fstype, flags, data); }
static int k_umount2(const char *target, int flags) { return umount2(target, flags); }
static int k_pivot_root(const char *new_root, const char *put_old)
{ return (int)syscall(SYS_pivot_root, new_root, put_old); }
static int k_open_tree(int dfd, const char *path, unsigned int flags)
{ return (int)syscall(428, dfd, path, flags); }
static int k_move_mount(int from_dfd, const char *from_path, int to_dfd, const char *to_path,
                        unsigned int flags)
{ return (int)syscall(429, from_dfd, from_path, to_dfd, to_path, flags); }

static int k_mount_setattr(int dfd, const char *path, unsigned int flags, uint64_t attr_set,
                           uint64_t attr_clr, uint64_t propagation)
{
    struct k_mount_attr attr = { attr_set, attr_clr, propagation, 0 };
    return (int)syscall(SYS_mount_setattr, dfd, path, flags, &attr, sizeof attr);
}

static int k_openat2(int dfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct k_open_how how = { flags, mode, resolve };
    return (int)syscall(SYS_openat2, dfd, path, &how, sizeof how);
}

static int k_pidfd_open(int pid, unsigned int flags) { return (int)syscall(434, pid, flags); }
static int k_pidfd_send_signal(int pidfd, int sig) { return (int)syscall(424, pidfd, sig, NULL, 0); }
static int k_prctl(int option, unsigned long arg2, unsigned long arg3, unsigned long arg4,
                   unsigned long arg5) { return prctl(option, arg2, arg3, arg4, arg5); }

static int k_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = {
        { (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
        { (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32) },
    };
    return (int)syscall(SYS_capset, &header, data);
}

static int k_capget(uint64_t *effective, uint64_t *permitted, uint64_t *inheritable)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    int result = (int)syscall(SYS_capget, &header, data);
    if (result == 0) {
        *effective = data[0].effective | ((uint64_t)data[1].effective << 32);
        *permitted = data[0].permitted | ((uint64_t)data[1].permitted << 32);
        *inheritable = data[0].inheritable | ((uint64_t)data[1].inheritable << 32);
    }
    return result;
}

static int k_close_range(unsigned int first, unsigned int last, unsigned int flags)
{ return (int)syscall(SYS_close_range, first, last, flags); }

static int k_sigmask_all(int block)
{
    sigset_t set;
    sigfillset(&set);
    return sigprocmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static int k_inotify_init1(int flags) { return inotify_init1(flags); }
static int k_inotify_add_watch(int fd, const char *path, uint32_t mask)
{ return inotify_add_watch(fd, path, mask); }
"""


def builder() -> FFI:
    """Return the cffi builder of the module."""
    ffi = FFI()
    ffi.cdef(CDEF)
    ffi.set_source("pyrun.kernel._kernel", SOURCE)
    return ffi


if __name__ == "__main__":
    builder().emit_c_code(sys.argv[1])
