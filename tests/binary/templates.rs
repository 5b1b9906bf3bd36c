//! Hostile chat templates through the binary: an error with exit code 65 or a harmless end, never a signal, and never
//! more than the promised processor time and memory.

use super::run::{in_repository, trill};
use crate::template_bombs::bomb;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

const BOMBS: usize = 220;
/// What a template may cost: `docs/security.md` promises it for a release build.
const SECONDS_MAX: f64 = 0.2;
const BYTES_MAX: i64 = 8 << 20;
/// What the program itself takes, more or less: debug code and other load on the machine.
const SLACK_SECONDS: f64 = 0.15;
const SLACK_BYTES: i64 = 1 << 20;

struct End {
    status: ExitStatus,
    seconds: f64,
    /// The most memory it had at once.
    bytes: i64,
    message: String,
}

/// Runs one question through the model at `path`.
#[allow(clippy::zombie_processes)] // it is waited for, by `wait4`
fn ask(path: &str) -> End {
    let mut command = trill(&["run", "-m", path, "--chat", "-p", "hi", "-n", "1", "-c", "64", "-t", "1"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("trill starts");
    let mut message = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut message).expect("UTF-8");
    let pid = libc::pid_t::try_from(child.id()).expect("a process id");
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: `pid` is our child, not waited for yet; both places are valid to write.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(waited, pid);
    // SAFETY: zeroes are a valid `rusage`, and the call has filled it.
    let usage = unsafe { usage.assume_init() };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    End {
        status: ExitStatus::from_raw(status),
        seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        bytes: usage.ru_maxrss * 1024,
        message,
    }
}

/// The tiny model with a chat template.
fn with_template(model: &[u8], template: &str) -> Vec<u8> {
    let key = b"tokenizer.chat_template";
    let count_at = 16;
    let count = u64::from_le_bytes(model[count_at..count_at + 8].try_into().expect("eight bytes"));
    let mut entry = (key.len() as u64).to_le_bytes().to_vec();
    entry.extend(key);
    entry.extend(8u32.to_le_bytes());
    entry.extend((template.len() as u64).to_le_bytes());
    entry.extend(template.as_bytes());
    // The first entry may stand anywhere; what follows the metadata is aligned, so the entry is filled up with spaces.
    let missing = entry.len().next_multiple_of(32) - entry.len();
    let at = entry.len() - template.len() - 8;
    entry[at..at + 8].copy_from_slice(&((template.len() + missing) as u64).to_le_bytes());
    entry.extend(std::iter::repeat_n(b' ', missing));
    let mut file = model[..count_at].to_vec();
    file.extend((count + 1).to_le_bytes());
    file.extend(entry);
    file.extend(&model[count_at + 8..]);
    file
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder of this test alone; the system clears what is left of it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn bombs_end_in_an_error() {
    let folder = Folder(std::env::temp_dir().join(format!("trill-bombs-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).expect("a folder");
    let path = folder.0.join("bomb.gguf");
    let name = path.to_str().expect("a UTF-8 path");
    let model = std::fs::read(in_repository("tests/data/stories-bitnet-I2_S.gguf")).expect("the tiny model");
    let run = |template: &str| {
        std::fs::write(&path, with_template(&model, template)).expect("room for a copy");
        ask(name)
    };
    // A template that is refused at once, so that both runs do the same beside.
    let plain: Vec<End> = (0..3).map(|_| run("{{ raise_exception('no') }}")).collect();
    assert!(plain.iter().all(|end| end.status.code() == Some(65)), "{}", plain[0].message);
    let seconds = plain.iter().map(|end| end.seconds).fold(f64::INFINITY, f64::min);
    let bytes = plain.iter().map(|end| end.bytes).max().expect("three runs");
    let (mut refused, mut worst) = (0, (0.0f64, 0i64));
    for n in 0..BOMBS {
        let (kind, template) = bomb(n);
        let end = run(&template);
        let what = format!("bomb {n} ({kind}), {:.200}: {}", template, end.message);
        assert_eq!(end.status.signal(), None, "{what}");
        assert!(matches!(end.status.code(), Some(0 | 65)), "{:?} {what}", end.status);
        if end.status.code() == Some(65) {
            refused += 1;
            assert_eq!(end.message.trim_end().lines().count(), 1, "{what}");
        }
        let (s, b) = (end.seconds - seconds, end.bytes - bytes);
        worst = (worst.0.max(s), worst.1.max(b));
        assert!(s <= SECONDS_MAX + SLACK_SECONDS, "{s} s: {what}");
        assert!(b <= BYTES_MAX + SLACK_BYTES, "{b} bytes: {what}");
    }
    println!(
        "{refused} of {BOMBS} refused; at most {:.0} ms and {} KiB more than a plain one",
        worst.0 * 1e3,
        worst.1 >> 10
    );
    assert!(refused > BOMBS * 3 / 4, "{refused}");
}
