//! What a process behind the fence can still do, found by trying it: one child process for each attempt.

use super::fence;
use crate::exit::reason;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The system said no, with this error.
    Refused(String),
    Possible,
    /// It could not be tried, for this reason.
    Untried(String),
}

/// One thing that trill never does once a model is loaded.
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    pub(crate) answer: Answer,
}

/// Prepares, closes the fence by the function given, tries. The outer error: it could not be prepared.
type Try = fn(&dyn Fn()) -> Result<io::Result<()>, io::Error>;

/// Tries everything in children of this process, behind the fence or, for comparison, without it. No other thread may
/// run.
pub(crate) fn all(fenced: bool) -> Vec<Attempt> {
    // The fence of a command that keeps a session is the one with a hole.
    let folder = std::env::temp_dir().join(format!("trill-doctor-{}", std::process::id()));
    let made = DirBuilder::new().mode(0o700).create(&folder).is_ok();
    let with_hole = if made { vec![folder.clone()] } else { Vec::new() };
    let tries: [(&'static str, &[PathBuf], Try); 13] = [
        ("open", &with_hole, open),
        ("create", &with_hole, create),
        ("open without a session", &[], open),
        ("create without a session", &[], create),
        ("execve", &with_hole, execute),
        ("fork", &with_hole, fork),
        ("socket", &with_hole, socket),
        ("connect", &with_hole, connect),
        ("bind", &with_hole, bind),
        ("ptrace", &with_hole, trace),
        ("process_vm_readv", &with_hole, read_memory),
        ("kill", &with_hole, signal),
        ("executable memory", &with_hole, new_code),
    ];
    let close = |folders: &[PathBuf]| {
        if fenced {
            // What does not hold shows in what is possible.
            drop(fence::enter(folders));
        }
    };
    let attempts =
        tries.map(|(name, folders, attempt)| Attempt { name, answer: in_child(attempt, &|| close(folders)) });
    if made {
        let _ = fs::remove_dir(&folder);
    }
    attempts.into()
}

/// Exit status of a child that could not prepare: no error of the system has this number.
const UNPREPARED: i32 = 254;

fn in_child(attempt: Try, close: &dyn Fn()) -> Answer {
    // SAFETY: the caller sees to it that no other thread runs, so the child is a whole process. It leaves by _exit:
    // nothing of the parent's is flushed or dropped twice. waitpid writes to `status` only.
    let status = unsafe {
        match libc::fork() {
            -1 => return Answer::Untried(reason(&io::Error::last_os_error())),
            0 => {
                let code = match attempt(close) {
                    Ok(Ok(())) => 0,
                    Ok(Err(error)) => error.raw_os_error().unwrap_or(UNPREPARED),
                    Err(_) => UNPREPARED,
                };
                libc::_exit(code)
            }
            child => {
                let mut status = 0;
                while libc::waitpid(child, &raw mut status, 0) < 0 {
                    if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                        return Answer::Untried(reason(&io::Error::last_os_error()));
                    }
                }
                status
            }
        }
    };
    if !libc::WIFEXITED(status) {
        return Answer::Untried(format!("ended by signal {}", libc::WTERMSIG(status)));
    }
    match libc::WEXITSTATUS(status) {
        0 => Answer::Possible,
        UNPREPARED => Answer::Untried("not to be had here".to_owned()),
        error => Answer::Refused(reason(&io::Error::from_raw_os_error(error))),
    }
}

/// What a system call that gives -1 for failure gave.
fn told(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn open(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    close();
    Ok(File::open("/").map(drop))
}

fn create(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    let path = std::env::temp_dir().join(format!("trill-attempt-{}", std::process::id()));
    close();
    Ok(File::create_new(&path).and_then(|_| fs::remove_file(&path)))
}

fn execute(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    let text = |t: &str| CString::new(t).map_err(io::Error::other);
    let (program, argument, null) = (text("/proc/self/exe")?, text("--version")?, text("/dev/null")?);
    // SAFETY: the strings and both lists, each with a null at its end, outlive the calls.
    unsafe {
        let sink = libc::open(null.as_ptr(), libc::O_WRONLY);
        if sink < 0 || libc::dup2(sink, 1) < 0 {
            return Err(io::Error::last_os_error());
        }
        close();
        let (arguments, environment) = ([program.as_ptr(), argument.as_ptr(), std::ptr::null()], [std::ptr::null()]);
        libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
    }
    Ok(Err(io::Error::last_os_error()))
}

fn fork(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    close();
    // SAFETY: this process has one thread; the child only leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: _exit has no preconditions.
        unsafe { libc::_exit(0) }
    }
    Ok(told(child.into()))
}

fn socket(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    close();
    // SAFETY: the call takes numbers only; the descriptor is closed with the process.
    Ok(told(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) }.into()))
}

/// The address as the system takes it.
fn raw(address: SocketAddr) -> Result<libc::sockaddr_in, io::Error> {
    let SocketAddr::V4(v4) = address else { return Err(io::ErrorKind::Unsupported.into()) };
    // SAFETY: a zeroed sockaddr_in is a valid value.
    let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    raw.sin_family = libc::AF_INET as libc::sa_family_t;
    raw.sin_port = v4.port().to_be();
    raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
    Ok(raw)
}

const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn connect(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = raw(listener.local_addr()?)?;
    TcpStream::connect(listener.local_addr()?)?;
    // SAFETY: `address` is a whole sockaddr_in that outlives the calls.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        told(socket.into())?;
        close();
        Ok(told(libc::connect(socket, (&raw const address).cast(), ADDRESS_BYTES).into()))
    }
}

fn bind(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    TcpListener::bind("127.0.0.1:0")?;
    let address = raw(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    // SAFETY: `address` is a whole sockaddr_in that outlives the calls.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        told(socket.into())?;
        close();
        Ok(told(libc::bind(socket, (&raw const address).cast(), ADDRESS_BYTES).into()))
    }
}

fn trace(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    close();
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: the request takes no arguments: the parent may trace this process from now on.
    return Ok(told(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    Err(io::ErrorKind::Unsupported.into())
}

fn read_memory(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    let (byte, mut copy) = (7u8, 0u8);
    let from = libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
    let to = libc::iovec { iov_base: (&raw mut copy).cast(), iov_len: 1 };
    close();
    // SAFETY: one byte of this process is copied to another; both outlive the call.
    Ok(told(unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0) } as libc::c_long))
}

fn signal(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    close();
    // SAFETY: signal 0 is sent to nobody; the system only says whether it could be.
    Ok(told(unsafe { libc::kill(libc::getppid(), 0) }.into()))
}

fn new_code(close: &dyn Fn()) -> Result<io::Result<()>, io::Error> {
    close();
    let (readable, private) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, which nobody uses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, readable, private, -1, 0) };
    Ok(if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) })
}
