//! The terminal's modes, and reading from it.

use std::sync::Mutex;

/// How the terminal was before; `Some` while a [`Mode`] lives.
static BEFORE: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Another mode of the terminal while it lives.
pub(crate) struct Mode;

impl Mode {
    /// Keys arrive one by one, nothing is echoed. `None` if standard input is no terminal.
    pub(super) fn raw() -> Option<Mode> {
        Mode::enter(|mode| {
            mode.c_iflag &= !(libc::BRKINT | libc::ICRNL | libc::INPCK | libc::ISTRIP | libc::IXON);
            mode.c_lflag &= !(libc::ECHO | libc::ICANON | libc::IEXTEN | libc::ISIG);
            mode.c_cc[libc::VMIN] = 1;
            mode.c_cc[libc::VTIME] = 0;
        })
    }

    /// What is typed waits for its time instead of mixing with what is shown. Ctrl-C still works.
    pub(crate) fn silent() -> Option<Mode> {
        Mode::enter(|mode| mode.c_lflag &= !libc::ECHO)
    }

    fn enter(change: impl FnOnce(&mut libc::termios)) -> Option<Mode> {
        // SAFETY: a zeroed termios is a valid value; tcgetattr fills it and tcsetattr reads it.
        let before = unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(0, &raw mut before) != 0 {
                return None;
            }
            let mut mode = before;
            change(&mut mode);
            if libc::tcsetattr(0, libc::TCSADRAIN, &raw const mode) != 0 {
                return None;
            }
            before
        };
        if let Ok(mut slot) = BEFORE.lock() {
            *slot = Some(before);
        }
        Some(Mode)
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was.
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
