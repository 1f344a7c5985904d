"""Files of the kernel's user: reading, writing, and what is known of them."""

from __future__ import annotations

import os

from tests.security.redteam import proofs
from tests.security.redteam.model import SKIPPED, Answer, Attempt
from tests.security.redteam.proofs import changed, made, told, unlinked

GROUP = "files"
_SIZE = 8
"""Of a file that says "original"."""


def mode_changed(arena, _: Answer) -> bool:
    return arena.files.now().st_mode != arena.files.metadata.st_mode


def _owner_changed(arena, _: Answer) -> bool:
    return arena.files.now().st_uid != arena.files.metadata.st_uid


def time_changed(arena, _: Answer) -> bool:
    return arena.files.now().st_mtime == 1.0


def _own_source_changed(arena, _: Answer) -> bool:
    return "redteam" in (arena.folder / f"{arena._name}.py").read_text()[-9:]


def _own_mode_changed(arena, _: Answer) -> bool:
    return (arena.folder / f"{arena._name}.py").stat().st_mode & 0o777 == 0o777


def _own_time_changed(arena, _: Answer) -> bool:
    return (arena.folder / f"{arena._name}.py").stat().st_mtime == 1.0


def _in_plugins(arena, _: Answer) -> bool:
    found = arena.folder / "plugins" / "planted.txt"
    is_there = found.exists()
    found.unlink(missing_ok=True)
    return is_there


def _shared(arena, _: Answer) -> bool:
    path = f"/dev/shm/redteam-{arena.token}"
    is_there = os.path.exists(path)
    if is_there:
        os.unlink(path)
    return is_there


def _is_device(arena, _: Answer) -> bool:
    return proofs.own_file(lambda found: found.st_rdev != 0)(arena, _)


def _told_metadata(arena, answer: Answer) -> bool:
    known = arena.files.metadata
    return answer.told == [known.st_size, known.st_mtime_ns, known.st_ino]


ATTEMPTS = [
    Attempt("read a file with open()", "用 open() 读取文件",
            "return open(f.secret_file).read()", told("file"), "landlock"),
    Attempt("read a file through the C library", "经 C 库读取文件", """
        descriptor = checked(libc.open(f.secret_file.encode(), os.O_RDONLY))
        return os.read(descriptor, 100)
    """, told("file"), "landlock"),
    Attempt("read a file by openat2", "用 openat2 读取文件", """
        how = struct.pack("QQQ", os.O_RDONLY, 0, 0)
        return os.read(syscall("openat2", -100, f.secret_file.encode(), how, len(how)), 100)
    """, told("file"), "seccomp"),
    Attempt("read a file below a descriptor of /", "经根目录的描述符读取文件", """
        root = os.open("/", os.O_PATH)
        return os.read(os.open(f.secret_file[1:], os.O_RDONLY, dir_fd=root), 100)
    """, told("file"), "landlock"),
    Attempt("read a file by .. out of the plugin's directory", "从自己的目录用 .. 走出去读文件", """
        api.data_dir.mkdir(parents=True, exist_ok=True)
        up = os.path.relpath(f.secret_file, f.data)
        os.chdir(f.data)
        return open(up).read()
    """, told("file"), "landlock"),
    Attempt("read a file through a symbolic link it made", "经自建的符号链接读文件", """
        link = os.path.join(f.data, "link")
        api.data_dir.mkdir(parents=True, exist_ok=True)
        os.symlink(f.secret_file, link)
        return open(link).read()
    """, told("file"), "landlock"),
    Attempt("read a file through a hard link it made", "经自建的硬链接读文件", """
        link = os.path.join(f.data, "link")
        api.data_dir.mkdir(parents=True, exist_ok=True)
        os.link(f.secret_file, link)
        return open(link).read()
    """, told("file"), "landlock"),
    Attempt("move a file into its own directory and read it", "把文件移到自己的目录再读", """
        api.data_dir.mkdir(parents=True, exist_ok=True)
        os.rename(f.secret_file, os.path.join(f.data, "mine"))
        return open(os.path.join(f.data, "mine")).read()
    """, told("file"), "landlock"),
    Attempt("exchange a file for one of the plugin's", "用自己的文件调换别人的文件", """
        api.data_dir.mkdir(parents=True, exist_ok=True)
        mine = os.path.join(f.data, "mine")
        open(mine, "w").write("exchanged")
        syscall("renameat2", -100, mine.encode(), -100, f.target.encode(), 2)
    """, changed, "landlock"),
    Attempt("read a file through /proc/self/root", "经 /proc/self/root 读文件", """
        return open("/proc/self/root" + f.secret_file).read()
    """, told("file"), "landlock"),
    Attempt("list a directory", "列出目录", "return os.listdir(f.folder + '/listed')", told("file"), "landlock"),
    Attempt("go into a directory and read there", "进入目录再读", """
        os.chdir(f.folder)
        return open("secret.txt").read()
    """, told("file"), "landlock"),
    Attempt("map a file into memory", "把文件映射进内存", """
        descriptor = os.open(f.secret_file, os.O_RDONLY)
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)[:]
    """, told("file"), "landlock"),
    Attempt("overwrite a file", "覆盖文件", "open(f.target, 'w').write('redteam')", changed, "landlock"),
    Attempt("append to a file", "追加到文件", "open(f.target, 'a').write('redteam')", changed, "landlock"),
    Attempt("truncate a file by its path", "按路径截断文件", "os.truncate(f.target, 0)", changed, "landlock"),
    Attempt("truncate a file by opening it for reading", "以只读方式打开来截断文件", """
        os.open(f.target, os.O_RDONLY | os.O_TRUNC)
    """, changed, "seccomp"),
    Attempt("create a file", "新建文件", "open(f.folder + '/new', 'w').write('x')", made("new"), "landlock"),
    Attempt("make a directory", "新建目录", "os.mkdir(f.folder + '/new')", made("new"), "landlock"),
    Attempt("make a symbolic link", "新建符号链接", "os.symlink('/', f.folder + '/new')", made("new"), "landlock"),
    Attempt("delete a file", "删除文件", "os.unlink(f.target)", unlinked("target.txt"), "landlock"),
    Attempt("rename a file in place", "就地改文件名",
            "os.rename(f.target, f.folder + '/new')", made("new"), "landlock"),
    Attempt("change a file's mode", "改文件权限",
            "os.chmod(f.target, 0o777)", mode_changed, "attributes", wasm="guest"),
    Attempt("change a file's mode by fchmodat2", "用 fchmodat2 改文件权限", """
        syscall("fchmodat2", -100, f.target.encode(), 0o777, 0)
    """, mode_changed, "seccomp", varies=True),
    Attempt("change a file's owner", "改文件属主",
            "os.chown(f.target, 12345, -1)", _owner_changed, "seccomp", root=True),
    Attempt("change a file's times", "改文件时间", "os.utime(f.target, (1, 1))", time_changed, "attributes"),
    Attempt("set an extended attribute", "设置扩展属性", """
        os.setxattr(f.target, "user.redteam", b"redteam")
    """, lambda arena, _: arena.files.label() == b"redteam", "seccomp", varies=True),
    Attempt("read an extended attribute", "读扩展属性", """
        return os.getxattr(f.secret_file, "user.secret")
    """, told("file"), "seccomp", varies=True),
    Attempt("read size, times and inode number of a file", "查询文件大小、时间与编号", """
        found = os.stat(f.target)
        return [found.st_size, found.st_mtime_ns, found.st_ino]
    """, _told_metadata, "open", means=(
        ("The plugin learns whether a file exists, and its size, times and owner, if it knows the path and may "
        "traverse the directories above. It learns neither the contents nor other names. Landlock has no rule for "
        "this yet, and refusing `stat` would break every import."),
        ("如果知道路径，并且上层目录可以通过，插件能得知文件是否存在，以及大小、时间和属主；读不到内容，"
        "也列不出其他名字。Landlock 尚无对应规则，而禁止 `stat` 会使所有 import 失败。"))),
    Attempt("read the target of a symbolic link", "读符号链接指向何处", """
        return os.readlink(f.folder + "/link")
    """, told("file"), "open", means=(
        "The plugin learns the target of a link whose path it knows. Keep secrets out of the names of link targets.",
        "如果知道符号链接的路径，就能读出它的目标。不要在链接目标的名字里放机密。")),
    Attempt("write its own source", "改写自己的源码",
            "open(f.own, 'a').write('# redteam')", _own_source_changed, "landlock"),
    Attempt("change the mode of the plugin's source, by descriptor", "经描述符改自己源码的权限", """
        os.fchmod(os.open(f.own, os.O_RDONLY), 0o777)
    """, _own_mode_changed, "attributes"),
    Attempt("change the times of the plugin's source, by descriptor", "经描述符改自己源码的时间", """
        os.utime(os.open(f.own, os.O_RDONLY), (1, 1))
    """, _own_time_changed, "attributes"),
    Attempt("create a file in the plugin directory", "在插件目录里放文件", """
        open(f.plugins + "/planted.txt", "w").write("x")
    """, _in_plugins, "landlock"),
    Attempt("leave a file in shared memory", "在共享内存里留文件", """
        open("/dev/shm/redteam-" + f.token, "w").write("x")
    """, _shared, "landlock"),
    Attempt("make a set-user-id program, by mode", "用权限位做 setuid 程序", """
        api.data_dir.mkdir(parents=True, exist_ok=True)
        path = os.path.join(f.data, "program")
        open(path, "w").write("x")
        os.chmod(path, 0o4755)
    """, proofs.own_file(proofs.is_setuid), "attributes", wasm="guest"),
    Attempt("make a set-user-id program, by creation", "用新建时的权限位做 setuid 程序", """
        api.data_dir.mkdir(parents=True, exist_ok=True)
        os.close(os.open(os.path.join(f.data, "program"), os.O_CREAT | os.O_WRONLY, 0o4755))
    """, proofs.own_file(proofs.is_setuid), "seccomp", wasm="guest"),
    Attempt("make a device", "新建设备文件", """
        api.data_dir.mkdir(parents=True, exist_ok=True)
        os.mknod(os.path.join(f.data, "device"), stat.S_IFCHR | 0o600, os.makedev(1, 5))
    """, _is_device, "seccomp", root=True),
    Attempt("open a file by its handle, without its path", "绕过目录、按句柄打开文件", """
        handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
        mount = ctypes.c_int()
        syscall("name_to_handle_at", -100, f.secret_file.encode(), handle, ctypes.byref(mount), 0)
        anchor = os.open(os.path.dirname(f.data), os.O_RDONLY)
        return os.read(syscall("open_by_handle_at", anchor, handle, os.O_RDONLY), 100)
    """, told("file"), "seccomp", root=True, varies=True),
    Attempt("watch a directory for changes", "监视目录变化", """
        watch = syscall("inotify_init1", 0)
        KEPT.append(watch)
        checked(libc.inotify_add_watch(watch, f.folder.encode(), 0xFFF))
    """, proofs.holds("anon_inode:inotify"), "seccomp"),
    Attempt("escape through a changed root", "改根目录逃出", """
        os.chroot(f.folder)
        return open("/secret.txt").read()
    """, told("file"), "seccomp", root=True, thread=SKIPPED),
]  # fmt: skip
