//! The terminal's raw mode: keys arrive one by one, nothing is echoed.

use std::sync::Mutex;

/// How the terminal was before; `Some` while it is raw.
static BEFORE: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Raw mode while it lives.
pub(super) struct Raw;

impl Raw {
    /// `None` if standard input is no terminal.
    pub(super) fn enter() -> Option<Raw> {
        // SAFETY: a zeroed termios is a valid value; tcgetattr fills it and tcsetattr reads it.
        let before = unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(0, &raw mut before) != 0 {
                return None;
            }
            let mut raw = before;
            raw.c_iflag &= !(libc::BRKINT | libc::ICRNL | libc::INPCK | libc::ISTRIP | libc::IXON);
            raw.c_lflag &= !(libc::ECHO | libc::ICANON | libc::IEXTEN | libc::ISIG);
            raw.c_cc[libc::VMIN] = 1;
            raw.c_cc[libc::VTIME] = 0;
            if libc::tcsetattr(0, libc::TCSADRAIN, &raw const raw) != 0 {
                return None;
            }
            before
        };
        if let Ok(mut slot) = BEFORE.lock() {
            *slot = Some(before);
        }
        Some(Raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was, if it is raw.
pub(crate) fn restore() {
    if let Ok(mut slot) = BEFORE.try_lock()
        && let Some(before) = slot.take()
    {
        // SAFETY: tcsetattr only reads the structure, which tcgetattr filled.
        unsafe { libc::tcsetattr(0, libc::TCSADRAIN, &raw const before) };
    }
}

/// Columns of the terminal on standard error.
pub(super) fn columns() -> usize {
    // SAFETY: a zeroed winsize is a valid value; the ioctl only fills it.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        libc::ioctl(2, libc::TIOCGWINSZ, &raw mut size);
        size
    };
    match size.ws_col {
        0 => 80,
        columns => usize::from(columns),
    }
}

/// What [`read`] found.
pub(super) enum Got {
    /// This many bytes.
    Bytes(usize),
    /// A signal came first.
    Signal,
    /// The end of the input.
    End,
}

/// Reads standard input, waiting at most `patience` milliseconds (-1: for ever). Time running out counts
/// as a signal.
pub(super) fn read(buffer: &mut [u8], patience: i32) -> Got {
    let mut wait = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, alive for the call; read writes at most the buffer's length into it.
    let got = unsafe {
        if libc::poll(&raw mut wait, 1, patience) <= 0 {
            return Got::Signal;
        }
        libc::read(0, buffer.as_mut_ptr().cast(), buffer.len())
    };
    match usize::try_from(got) {
        Ok(0) => Got::End,
        Ok(n) => Got::Bytes(n),
        Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => Got::Signal,
        Err(_) => Got::End,
    }
}

/// Stops the program as Ctrl-Z does; returns when it goes on.
pub(super) fn suspend() {
    // SAFETY: raise has no preconditions.
    unsafe { libc::raise(libc::SIGTSTP) };
}
