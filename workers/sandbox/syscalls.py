"""System call numbers by architecture. Source: Linux 6.1 unistd headers (x86_64 table; asm-generic for aarch64)."""

from __future__ import annotations

ARCHITECTURES = {"x86_64": 0, "aarch64": 1}
AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

Numbers = tuple[int | None, int | None]

OTHER_PROCESSES: dict[str, Numbers] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "tkill": (200, 130),
}
MOUNTS_AND_NAMESPACES: dict[str, Numbers] = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "fanotify_init": (300, 262),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}
KERNEL_SURFACE: dict[str, Numbers] = {
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "syslog": (103, 116),
    "personality": (135, 92),
    "vmsplice": (278, 75),
    "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
}
SHARED_WITH_OTHERS: dict[str, Numbers] = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "socket": (41, 198),
}
NEW_PROGRAMS: dict[str, Numbers] = {"execve": (59, 221), "execveat": (322, 281)}
NEW_PROCESSES: dict[str, Numbers] = {"fork": (57, None), "vfork": (58, None)}
NEW_SESSIONS: dict[str, Numbers] = {"setsid": (112, 157), "setpgid": (109, 154)}
WITH_RULES: dict[str, Numbers] = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "fcntl": (72, 25),
    "kill": (62, 129),
    "prlimit64": (302, 261),
    "socketpair": (53, 199),
    "tgkill": (234, 131),
}

ALWAYS_DENIED = OTHER_PROCESSES | MOUNTS_AND_NAMESPACES | KERNEL_SURFACE | SHARED_WITH_OTHERS
ALL = ALWAYS_DENIED | NEW_PROGRAMS | NEW_PROCESSES | NEW_SESSIONS | WITH_RULES


def numbers(table: dict[str, Numbers], machine: str) -> dict[str, int]:
    """Return name -> number on `machine`, without the calls it does not have.

    Raises:
        KeyError: an architecture without a table.
    """
    column = ARCHITECTURES[machine]
    return {name: number for name, pair in table.items() if (number := pair[column]) is not None}
