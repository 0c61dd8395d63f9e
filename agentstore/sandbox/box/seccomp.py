"""The seccomp filter of a sandbox: the system calls that do not exist in it, and those whose arguments are checked."""

import ctypes
import errno
import os
import platform
import struct
from typing import Any

# System calls that do not exist in a sandbox: those that allocate memory which belongs to no process and counts
# towards no quota (memfd, System V queues and segments, rings, extended attributes, watches of files, pages that a pipe
# borrows), and kernel interfaces that no tool of a sandbox needs. By machine: its audit number; the numbers of
# memfd_create, memfd_secret, shmget, msgget, semget, mq_open, io_uring_setup, userfaultfd, bpf, perf_event_open,
# keyctl, add_key, request_key, mount, umount2, pivot_root, fsopen, open_tree, move_mount, unshare, setns, pidfd_getfd,
# open_by_handle_at, fanotify_init, process_vm_readv, process_vm_writev, syslog, setxattr, lsetxattr, fsetxattr,
# setxattrat, inotify_init, inotify_init1, vmsplice and ioprio_set; and the numbers of the calls whose arguments are
# checked.
_BLOCKED_CALLS: dict[str, tuple[int, str, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        "319 447 29 68 64 240 425 323 321 298 250 248 249 165 166 155 430 428 429 272 308 438 304 300 310 311 "
        "103 188 189 190 463 253 294 278 251",
        {
            "mmap": 9,
            "socket": 41,
            "socketpair": 53,
            "setsockopt": 54,
            "fcntl": 72,
            "setpriority": 141,
            "sched_setparam": 142,
            "sched_setscheduler": 144,
            "sched_setaffinity": 203,
            "prlimit64": 302,
            "sched_setattr": 314,
            "seccomp": 317,
        },
    ),
    "aarch64": (
        0xC00000B7,
        "279 447 194 186 190 180 425 282 280 241 219 217 218 40 39 41 430 428 429 97 268 438 265 262 270 271 "
        "116 5 6 7 463 26 75 30",
        {
            "mmap": 222,
            "socket": 198,
            "socketpair": 199,
            "setsockopt": 208,
            "fcntl": 25,
            "setpriority": 140,
            "sched_setparam": 118,
            "sched_setscheduler": 119,
            "sched_setaffinity": 122,
            "prlimit64": 261,
            "sched_setattr": 274,
            "seccomp": 277,
        },
    ),
}

_Instruction = tuple[int, int, int, int]


def install_filter(libc: Any) -> int:
    """Install the filter in this process and all that it starts.

    Returns a descriptor on which the kernel asks whether a process may lock a part of a file: see :mod:`.locks`.

    Raises:
        OSError: it cannot be installed, or this is a machine other than x86_64 and aarch64, for which there is none.
    """
    if platform.machine() not in _BLOCKED_CALLS:
        raise OSError(f"there is no seccomp filter for {platform.machine()}, but for {', '.join(_BLOCKED_CALLS)}")
    architecture, blocked, checked = _BLOCKED_CALLS[platform.machine()]
    program = _build_filter(architecture, blocked, checked)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    # SECCOMP_SET_MODE_FILTER, with SECCOMP_FILTER_FLAG_NEW_LISTENER.
    listener = libc.syscall(checked["seccomp"], 1, 8, ctypes.c_void_p(ctypes.addressof(filter_)))
    if listener < 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
    return int(listener)


def _build_filter(architecture: int, blocked: str, checked: dict[str, int]) -> list[_Instruction]:
    """Return the filter as BPF instructions: opcode, instructions to skip if true, and if false, and operand."""
    load, both, equal, at_least, leave = 0x20, 0x54, 0x15, 0x35, 0x06
    allow, refuse = (leave, 0, 0, 0x7FFF0000), 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
    missing = (leave, 0, 0, refuse | errno.ENOSYS)
    forbidden = (leave, 0, 0, refuse | errno.EPERM)
    invalid = (leave, 0, 0, refuse | errno.EINVAL)
    ask = (leave, 0, 0, 0x7FC00000)  # SECCOMP_RET_USER_NOTIF

    def argument(number: int, *, upper: bool = False) -> _Instruction:
        return (load, 0, 0, 16 + 8 * number + 4 * upper)

    def one_of(*values: int) -> list[_Instruction]:
        """Continue with the next instruction if the value is one of these, else with the one after it."""
        last = len(values) - 1
        return [(equal, last - place, place == last, value) for place, value in enumerate(values)]

    # Sockets of other families than AF_UNIX have buffers of their own, which count for no process, and lead nowhere:
    # a sandbox has no network. Families such as AF_VSOCK do not even belong to a network namespace.
    only_unix = [argument(0), *one_of(1), allow, (leave, 0, 0, refuse | errno.EAFNOSUPPORT)]
    # Process 1, the box, belongs to the same user.
    not_process_1 = [argument(0), *one_of(1), forbidden, allow]
    bodies = {
        # Shared anonymous memory is a file of the kernel that may outlive the mapping of every process.
        "mmap": [argument(3), (both, 0, 0, 0x2F), *one_of(0x21, 0x23), forbidden, allow],
        "socket": only_unix,
        "socketpair": only_unix,
        # Larger socket buffers, and programs that filter what a socket receives.
        "setsockopt": [
            *(argument(1), (equal, 0, 9, 1)),
            *(argument(2), *one_of(7, 8, 26, 32, 33, 51), forbidden, allow, allow),
        ],
        # Locks of parts of files are memory that counts for no process: the box counts them. Those of open files
        # (F_OFD_SETLK), leases and watches of directories do not exist, and pipes keep their size.
        "fcntl": [
            *(argument(1), *one_of(6, 7), ask),
            *(*one_of(37, 38, 1024, 1026), invalid),
            *(*one_of(1031), forbidden, allow),
        ],
        # Of groups and users, process 1 may be a member.
        "setpriority": [argument(0), (equal, 0, 2, 0), argument(1), (equal, 0, 1, 1), forbidden, allow],
        **dict.fromkeys(("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr"), not_process_1),
        # Limits of other processes, process 1 among them.
        "prlimit64": [
            *(argument(0), (equal, 5, 0, 0)),
            *(argument(2), (equal, 0, 2, 0), argument(2, upper=True), (equal, 1, 0, 0)),
            *(forbidden, allow),
        ],
    }
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), missing, (load, 0, 0, 0)]
    program += [(at_least, 0, 1, 0x40000000), missing]  # the x32 calls, which have other numbers
    for number in map(int, blocked.split()):
        program += [(equal, 0, 1, number), missing]
    for name, body in bodies.items():
        program += [(equal, 0, len(body), checked[name]), *body]
    return [*program, allow]
