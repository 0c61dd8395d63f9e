"""The confinement of a box: mounts with quotas, capabilities, the seccomp filter and resource limits."""

import contextlib
import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from typing import Any

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 4, 22, 24, 36
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_CLONE_NEWNS, _MS_NOSUID, _MS_NODEV = 0x20000, 2, 4

# System calls that do not exist in a sandbox: those that allocate memory which belongs to no process and counts
# towards no quota (memfd, System V queues and segments, rings, extended attributes), and kernel interfaces that no
# tool of a sandbox needs. By machine: its audit number; the numbers of memfd_create, memfd_secret, shmget, msgget,
# semget, mq_open, io_uring_setup, userfaultfd, bpf, perf_event_open, keyctl, add_key, request_key, mount, umount2,
# pivot_root, fsopen, open_tree, move_mount, unshare, setns, pidfd_getfd, open_by_handle_at, fanotify_init,
# process_vm_readv, process_vm_writev, syslog, setxattr, lsetxattr, fsetxattr and setxattrat; and the numbers of mmap,
# socket, setsockopt and prlimit64, whose arguments are checked.
_BLOCKED_CALLS: dict[str, tuple[int, str, tuple[int, int, int, int]]] = {
    "x86_64": (
        0xC000003E,
        "319 447 29 68 64 240 425 323 321 298 250 248 249 165 166 155 430 428 429 272 308 438 304 300 310 311 "
        "103 188 189 190 463",
        (9, 41, 54, 302),
    ),
    "aarch64": (
        0xC00000B7,
        "279 447 194 186 190 180 425 282 280 241 219 217 218 40 39 41 430 428 429 97 268 438 265 262 270 271 "
        "116 5 6 7 463",
        (222, 198, 208, 261),
    ),
}

# The box's own processes and threads, and those that it can still start when its children have reached their limit.
_OWN_PROCESSES = 8
_SPARE_PROCESSES = 16


def _load_libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def confine(limits: dict[str, int]) -> None:
    """Mount the writable directories, each with its quota, and give up all capabilities.

    The tmpfs that bwrap can mount is limited in bytes but not in inodes: empty files would take nothing of the quota,
    and 1 kB of kernel memory each. Mounts of a namespace below bwrap's are locked, so nothing that is read-only can be
    made writable even before the capabilities are given up.
    """
    libc = _load_libc()
    _check(libc.unshare(_CLONE_NEWNS), "unshare")
    owner = f"uid={os.getuid()},gid={os.getgid()}"
    for place, size, files, mode in (
        ("/workspace", limits["disk"], limits["files"], "0755"),
        ("/tmp", limits["disk"], limits["files"], "1777"),  # noqa: S108 - the sandbox's own
        ("/dev/shm", min(limits["disk"], 64_000_000), 1024, "1777"),  # noqa: S108
    ):
        options = f"size={size},nr_inodes={files + 1},mode={mode},{owner}"
        flags = _MS_NOSUID | _MS_NODEV
        _check(libc.mount(b"tmpfs", place.encode(), b"tmpfs", flags, options.encode()), f"mount {place}")
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # the last capability that this kernel has
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl")
    header = struct.pack("Ii", 0x20080522, 0)
    _check(libc.capset(header, bytes(24)), "capset")
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    with open("/proc/self/status") as status:
        capabilities = [line.split()[1] for line in status if line.startswith("Cap")]
    if any(int(each, 16) for each in capabilities):
        raise OSError(f"capabilities could not be dropped: {capabilities}")
    _install_filter(libc)
    # The code in the sandbox runs as the same user: without this, it could read the box's memory and descriptors.
    _check(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Make this process the parent of its orphaned descendants, as process 1 is by itself."""
    _load_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _install_filter(libc: Any) -> None:
    """Install the seccomp filter. There is none for machines other than x86_64 and aarch64."""
    if platform.machine() not in _BLOCKED_CALLS:
        return
    program = _build_filter(*_BLOCKED_CALLS[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _check(libc.prctl(_PR_SET_SECCOMP, 2, ctypes.c_void_p(ctypes.addressof(filter_)), 0, 0), "seccomp")


def _build_filter(
    architecture: int, blocked: str, checked: tuple[int, int, int, int]
) -> list[tuple[int, int, int, int]]:
    """Return the filter as BPF instructions: opcode, instructions to skip if true, and if false, and operand."""
    load, both, equal, at_least, leave = 0x20, 0x54, 0x15, 0x35, 0x06
    allow, refuse = (leave, 0, 0, 0x7FFF0000), 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
    missing = (leave, 0, 0, refuse | errno.ENOSYS)
    forbidden = (leave, 0, 0, refuse | errno.EPERM)

    def argument(number: int, *, upper: bool = False) -> tuple[int, int, int, int]:
        return (load, 0, 0, 16 + 8 * number + 4 * upper)

    def one_of(*values: int) -> list[tuple[int, int, int, int]]:
        """Continue with the next instruction if the value is one of these, else with the one after it."""
        last = len(values) - 1
        return [(equal, last - place, place == last, value) for place, value in enumerate(values)]

    map_, socket_, setsockopt, prlimit = checked
    bodies = {
        # Shared anonymous memory is a file of the kernel that may outlive the mapping of every process.
        map_: [argument(3), (both, 0, 0, 0x2F), *one_of(0x21, 0x23), forbidden, allow],
        # Allowed are AF_UNIX, AF_INET and AF_INET6 (only the loopback exists), AF_NETLINK, and AF_PACKET, which needs
        # a capability. Other families, such as AF_VSOCK, do not belong to a network namespace.
        socket_: [argument(0), *one_of(1, 2, 10, 16, 17), allow, (leave, 0, 0, refuse | errno.EAFNOSUPPORT)],
        # Larger socket buffers.
        setsockopt: [argument(1), (equal, 0, 7, 1), argument(2), *one_of(7, 8, 32, 33), forbidden, allow, allow],
        # Limits of other processes, process 1 among them.
        prlimit: [
            *(argument(0), (equal, 5, 0, 0)),
            *(argument(2), (equal, 0, 2, 0), argument(2, upper=True), (equal, 1, 0, 0)),
            *(forbidden, allow),
        ],
    }
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), missing, (load, 0, 0, 0)]
    program += [(at_least, 0, 1, 0x40000000), missing]  # the x32 calls, which have other numbers
    for number in map(int, blocked.split()):
        program += [(equal, 0, 1, number), missing]
    for number, body in bodies.items():
        program += [(equal, 0, len(body), number), *body]
    return [*program, allow]


def limit_resources(limits: dict[str, int], *, confined: bool) -> None:
    """Set the limits of each process. Those of the box are a little higher, see :func:`limit_child`.

    Memory is limited by RLIMIT_DATA and not by RLIMIT_AS: address space that is only reserved, by arenas of threads or
    by JavaScript engines, uses no memory.
    """
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits["file_size"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_DATA: limits["memory"],
    }
    if confined:  # outside a user namespace it would count all processes of the user
        wanted[resource.RLIMIT_NPROC] = limits["processes"] + _OWN_PROCESSES + _SPARE_PROCESSES
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # when the machine runs out of memory, the sandbox is killed first
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError):  # macOS has some that cannot be set
            resource.setrlimit(kind, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def limit_child(limits: dict[str, int], *, confined: bool) -> None:
    """Set the limits of a process that the box starts, between fork and exec."""
    # Lower than the box's own, so that the box can start a process when its children have reached their limit.
    if confined:
        most = limits["processes"] + _OWN_PROCESSES
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu"], limits["cpu"] + 5))
    os.nice(5)  # so that the box responds however busy they are
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
