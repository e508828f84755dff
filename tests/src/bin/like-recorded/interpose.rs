//! The C library's calls that change files, defined here: whatever the programs in this binary call, Rust's standard
//! library and sled included, comes by. Each does what the kernel does, and tells [`Desk`] before or after it.
//!
//! The one unsafe file of the tests. Reading, mapping and permissions are left alone.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{c_char, c_int, c_long, c_uint, c_void, mode_t, off64_t, size_t, ssize_t};

use super::desk::{Desk, Object, Verdict};

/// Calls the kernel. Errors are as the C library has them: -1, and `errno`.
macro_rules! kernel {
    ($call:ident $(, $argument:expr)*) => {
        // SAFETY: the arguments are those of our caller, who promised what the C library wants of it.
        unsafe { libc::syscall(libc::$call $(, $argument)*) }
    };
}

/// What a descriptor stands for: an inode, its name, and whether it is a file. Async-signal-safe for anything else.
pub fn object_of(fd: RawFd) -> Option<Object> {
    // SAFETY: a zeroed `stat` is valid, and the kernel fills it in.
    let stat = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &raw mut stat) != 0 {
            return None;
        }
        stat
    };
    let is_file = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    if !is_file && stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return None;
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    Some(Object { inode: stat.st_ino, path, is_file })
}

/// Where the next byte would be written.
fn offset(fd: RawFd) -> u64 {
    let at = kernel!(SYS_lseek, fd, 0 as c_long, libc::SEEK_CUR);
    u64::try_from(at).unwrap_or(0)
}

fn fail(error: c_int) -> c_int {
    // SAFETY: the address is this thread's `errno`.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// Appends to the record; there is nobody to tell if that fails, and a record with a gap would prove nothing.
pub fn append(fd: RawFd, bytes: &[u8]) {
    let written = kernel!(SYS_write, fd, bytes.as_ptr(), bytes.len());
    assert_eq!(usize::try_from(written), Ok(bytes.len()), "the record is incomplete");
}

/// Dies as a process dies that is killed.
pub fn die() -> ! {
    let pid = std::process::id();
    let _ = kernel!(SYS_kill, pid, libc::SIGKILL);
    std::process::abort()
}

/// Stops as a process stops that is sent SIGSTOP, until it is continued.
pub fn stop() {
    let _ = kernel!(SYS_kill, std::process::id(), libc::SIGSTOP);
}

/// This thread's id.
pub fn thread_id() -> u64 {
    u64::try_from(kernel!(SYS_gettid)).unwrap_or(0)
}

/// The path that a call names, as the process sees it.
///
/// # Safety
/// `path` is a C string.
unsafe fn named(directory: c_int, path: *const c_char) -> PathBuf {
    // SAFETY: as promised.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    if path.is_absolute() {
        return path.to_owned();
    }
    let above = if directory == libc::AT_FDCWD {
        "/proc/self/cwd".to_owned()
    } else {
        format!("/proc/self/fd/{directory}")
    };
    std::fs::read_link(above).unwrap_or_default().join(path)
}

/// # Safety
/// As for `openat(2)`.
unsafe fn opened(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let makes = flags & (libc::O_CREAT | libc::O_TRUNC) != 0;
    let desk = Desk::get();
    // SAFETY: `path` is a C string.
    let name = desk.map(|_| unsafe { named(directory, path) });
    let instead = desk.zip(name.as_deref()).and_then(|(desk, name)| desk.read_instead(name));
    if let (Some(desk), Some(name), true) = (desk, &name, makes) {
        desk.before_change(name);
    }
    let path = instead.map_or(path, CStr::as_ptr);
    let fd = kernel!(SYS_openat, directory, path, flags, mode) as c_int;
    if let (Some(desk), true, true) = (desk, makes, fd >= 0)
        && let Some(object) = object_of(fd)
    {
        desk.opened(&object, flags & libc::O_TRUNC != 0);
    }
    fd
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: what our caller promised.
    unsafe { opened(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: what our caller promised.
    unsafe { opened(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: what our caller promised.
    unsafe { opened(directory, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: what our caller promised.
    unsafe { opened(directory, path, flags, mode) }
}

fn is_told(fd: c_int) -> bool {
    fd == libc::STDOUT_FILENO || fd == libc::STDERR_FILENO
}

/// # Safety
/// `bytes` is valid for `count` bytes.
unsafe fn written(fd: c_int, bytes: *const c_void, count: size_t, at: Option<off64_t>) -> ssize_t {
    let write = |count: size_t| match at {
        Some(at) => kernel!(SYS_pwrite64, fd, bytes, count, at) as ssize_t,
        None => kernel!(SYS_write, fd, bytes, count) as ssize_t,
    };
    // SAFETY: as promised.
    let told = |written: ssize_t| unsafe {
        std::slice::from_raw_parts(bytes.cast::<u8>(), usize::try_from(written).unwrap_or(0))
    };
    let Some(desk) = Desk::get() else { return write(count) };
    if is_told(fd) {
        let result = write(count);
        desk.told(fd == libc::STDERR_FILENO, told(result));
        return result;
    }
    let Some(object) = object_of(fd).filter(|object| object.is_file && desk.minds(&object.path)) else {
        return write(count);
    };
    let count = match desk.before_write(&object.path, count) {
        Verdict::Up(to) => count.min(to),
        Verdict::Fails(error) => return fail(error) as ssize_t,
    };
    let result = write(count);
    if result > 0 {
        let end = at.map_or_else(|| offset(fd) - result as u64, |at| at as u64);
        desk.wrote(object.inode, end, told(result));
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: what our caller promised.
    unsafe { written(fd, bytes, count, None) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: size_t, at: off64_t) -> ssize_t {
    // SAFETY: what our caller promised.
    unsafe { written(fd, bytes, count, Some(at)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: size_t, at: off64_t) -> ssize_t {
    // SAFETY: what our caller promised.
    unsafe { written(fd, bytes, count, Some(at)) }
}

/// To a file that is minded, the parts are written one by one: a short write is what the call allows.
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, parts: *const libc::iovec, count: c_int) -> ssize_t {
    let minded = is_told(fd)
        || Desk::get().is_some_and(|desk| object_of(fd).is_some_and(|object| desk.minds(&object.path)));
    if !minded {
        return kernel!(SYS_writev, fd, parts, count) as ssize_t;
    }
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: `parts` has `count` parts, each valid for its length.
        let part = unsafe { &*parts.add(index) };
        if part.iov_len > 0 {
            // SAFETY: as above.
            return unsafe { written(fd, part.iov_base, part.iov_len, None) };
        }
    }
    0
}

fn resized(fd: c_int, length: off64_t) -> c_int {
    let object = object_of(fd);
    let minded = Desk::get().zip(object).filter(|(desk, object)| desk.minds(&object.path));
    if let Some((desk, object)) = &minded {
        desk.before_change(&object.path);
    }
    let result = kernel!(SYS_ftruncate, fd, length) as c_int;
    if let (Some((desk, object)), 0) = (minded, result) {
        desk.resized(object.inode, length as u64);
    }
    result
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: c_int, length: off64_t) -> c_int {
    resized(fd, length)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, length: off64_t) -> c_int {
    resized(fd, length)
}

fn synced(fd: c_int, call: impl FnOnce() -> c_int) -> c_int {
    let minded = Desk::get().zip(object_of(fd)).filter(|(desk, object)| desk.minds(&object.path));
    let Some((desk, object)) = minded else { return call() };
    if let Some(error) = desk.before_sync(&object.path) {
        return fail(error);
    }
    desk.sync_begins(object.inode);
    let result = call();
    desk.sync_ended(object.inode, result == 0);
    result
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    synced(fd, || kernel!(SYS_fsync, fd) as c_int)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    synced(fd, || kernel!(SYS_fdatasync, fd) as c_int)
}

/// # Safety
/// Both are C strings.
unsafe fn renamed(from_in: c_int, from: *const c_char, to_in: c_int, to: *const c_char) -> c_int {
    // SAFETY: as promised.
    let names = Desk::get().map(|desk| unsafe { (desk, named(from_in, from), named(to_in, to)) });
    if let Some((desk, from, _)) = &names {
        desk.before_change(from);
    }
    let result = kernel!(SYS_renameat2, from_in, from, to_in, to, 0) as c_int;
    if let (Some((desk, from, to)), 0) = (names, result) {
        desk.renamed(from, to);
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: what our caller promised.
    unsafe { renamed(libc::AT_FDCWD, from, libc::AT_FDCWD, to) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(from_in: c_int, from: *const c_char, to_in: c_int, to: *const c_char) -> c_int {
    // SAFETY: what our caller promised.
    unsafe { renamed(from_in, from, to_in, to) }
}

/// # Safety
/// `path` is a C string.
unsafe fn removed(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as promised.
    let name = Desk::get().map(|desk| unsafe { (desk, named(directory, path)) });
    if let Some((desk, name)) = &name {
        desk.before_change(name);
    }
    let result = kernel!(SYS_unlinkat, directory, path, flags) as c_int;
    if let (Some((desk, name)), 0) = (name, result) {
        desk.removed(name);
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: what our caller promised.
    unsafe { removed(libc::AT_FDCWD, path, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: what our caller promised.
    unsafe { removed(directory, path, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: what our caller promised.
    unsafe { removed(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: `path` is a C string.
    let name = Desk::get().map(|desk| unsafe { (desk, named(libc::AT_FDCWD, path)) });
    if let Some((desk, name)) = &name {
        desk.before_change(name);
    }
    let result = kernel!(SYS_mkdirat, libc::AT_FDCWD, path, mode as c_uint) as c_int;
    if let (Some((desk, name)), 0) = (name, result) {
        desk.made_directory(name);
    }
    result
}
