//! The fence around a loaded model: what a process behind it can still do, seen from inside (`trill doctor` tries), from
//! outside (a debugger makes a running conversation call the system) and on kernels that lack a part of it.

use crate::run::{in_repository, json, run, smollm2, trill};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn model() -> String {
    in_repository("tests/data/stories-bitnet-I2_S.gguf").to_str().expect("a UTF-8 path").to_owned()
}

fn errors(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// An empty folder of this test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("trill-fence-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a UTF-8 path").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes calls fail in a child as they do on a kernel that does not have them.
fn without(mut command: Command, calls: &'static [libc::c_long]) -> Command {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for &call in calls {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32));
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    // SAFETY: prctl is async-signal-safe and only reads the program, which the closure owns.
    unsafe {
        command.pre_exec(move || {
            let whole = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
            let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const whole) == 0;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    command
}

const NO_LANDLOCK: &[libc::c_long] = &[libc::SYS_landlock_create_ruleset];
const NO_SECCOMP: &[libc::c_long] = &[libc::SYS_seccomp];

/// Whether this kernel has Landlock; where it does not, only what seccomp gives can be tested.
fn has_landlock() -> bool {
    // SAFETY: with this flag the call takes no structure and gives the version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) };
    if version <= 0 {
        println!("skipped in part: this kernel has no Landlock");
    }
    version > 0
}

/// The answers of `trill doctor`, by attempt.
fn doctor(command: Command) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("a text").to_owned();
    let report = json(command);
    let attempts = report["fence"].as_array().expect("attempts");
    attempts.iter().map(|a| (text(&a["attempt"]), text(&a["answer"]))).collect()
}

#[test]
fn a_process_behind_the_fence_is_refused_what_it_tries() {
    let landlock = has_landlock();
    let fenced = doctor(trill(&["doctor", "--json"]));
    for name in ["open", "create", "socket", "connect", "bind", "execve", "fork", "ptrace", "kill"] {
        assert!(fenced.iter().any(|(n, _)| n == name), "{name} is not tried");
    }
    for (name, answer) in &fenced {
        let by_landlock = name == "open" || name == "create";
        assert!(answer == "refused" || by_landlock && !landlock, "{name}: {answer}");
    }
    // The same attempts without the fence: they can succeed.
    for (name, answer) in doctor(trill(&["doctor", "--json", "--sandbox", "off"])) {
        assert_eq!(answer, "possible", "{name}");
    }
    // A kernel without Landlock: files are refused only where none are needed.
    for (name, answer) in doctor(without(trill(&["doctor", "--json"]), NO_LANDLOCK)) {
        let open = name == "open" || name == "create";
        assert_eq!(answer, if open { "possible" } else { "refused" }, "{name}");
    }
}

#[test]
fn a_kernel_without_a_part_is_silent_unless_it_is_required() {
    let folder = Folder::new("require");
    let session = folder.file("x.session");
    let line = |sandbox: &'static str, kept: bool| {
        let mut line = vec!["run", "-m", "M", "-p", "Once", "-n", "3", "--temp", "0", "--sandbox", sandbox];
        if kept {
            line.extend(["--session", &session]);
        }
        line.into_iter().map(|w| if w == "M" { model() } else { w.to_owned() }).collect::<Vec<_>>()
    };
    let start = |sandbox, kept, calls| {
        let words = line(sandbox, kept);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _ = std::fs::remove_file(&session);
        run(without(trill(&words), calls), "")
    };
    const BOTH: &[libc::c_long] = &[libc::SYS_landlock_create_ruleset, libc::SYS_seccomp];
    const NEITHER: &[libc::c_long] = &[];
    for (calls, kept, holds) in [
        (NEITHER, false, true),
        (NEITHER, true, has_landlock()),
        (NO_LANDLOCK, false, true),
        (NO_LANDLOCK, true, false),
        (NO_SECCOMP, false, false),
        (BOTH, false, false),
    ] {
        let (on, require) = (start("on", kept, calls), start("require", kept, calls));
        assert!(on.status.success() && on.stderr.is_empty(), "{calls:?}: {}", errors(&on));
        assert!(!on.stdout.is_empty());
        let said = errors(&require);
        assert_eq!(require.status.code(), Some(if holds { 0 } else { 69 }), "{calls:?}, session {kept}: {said}");
        assert_eq!(said.lines().count(), usize::from(!holds), "{said}");
        assert!(holds || said.contains("--sandbox require") && require.stdout.is_empty(), "{said}");
    }
    // -v says what is missing.
    let out = run(without(trill(&["tokenize", "-m", &model(), "-p", "x", "-v"]), BOTH), "");
    assert!(errors(&out).contains("no Landlock") && errors(&out).contains("no seccomp"), "{}", errors(&out));
}

#[test]
fn the_text_is_the_same_with_the_fence_and_without() {
    let models = [Some(model()), smollm2().map(|p| p.to_str().expect("a UTF-8 path").to_owned())];
    for model in models.iter().flatten() {
        let ids = |sandbox| {
            let line = ["run", "-m", model, "-p", "The sun was", "-n", "48", "-c", "256", "--temp", "0.9", "-s", "5"];
            json(trill(&[&line[..], &["--ignore-eos", "--json", "--sandbox", sandbox]].concat()))["token_ids"].clone()
        };
        let plain = ids("off");
        assert_eq!(plain.as_array().map(Vec::len), Some(48));
        assert_eq!(plain, ids("require"), "{model}");
    }
}

#[test]
fn every_command_works_behind_the_fence() {
    let folder = Folder::new("commands");
    let (model, session, out) = (model(), folder.file("x.session"), folder.file("out.gguf"));
    let text = in_repository("tests/data/english.txt").to_str().expect("a UTF-8 path").to_owned();
    let q8 = folder.file("q8.gguf");
    let fenced = |line: &str| {
        let words: Vec<&str> = line
            .split(' ')
            .map(|w| match w {
                "M" => &model,
                "S" => &session,
                "TEXT" => &text,
                "OUT" => &out,
                "Q8" => &q8,
                w => w,
            })
            .collect();
        let mut command = trill(&[&words[..], &["--sandbox", "require"]].concat());
        command.env("XDG_CACHE_HOME", &folder.0);
        let done = run(command, "Once upon a time");
        assert_eq!(done.status.code(), Some(0), "{line}: {}", errors(&done));
        errors(&done)
    };
    if !has_landlock() {
        return;
    }
    fenced("run -m M -p Once -n 12 --temp 0 --session S");
    // The session was written, and is found again.
    let said = fenced("run -m M -p Once -n 12 --temp 0 --session S");
    assert!(said.contains("restored"), "{said}");
    fenced("chat -m M -n 8 --temp 0");
    fenced("perplexity -m M -f TEXT -c 64 -q");
    fenced("logits -m M --tokens 1,2,3 --all -q");
    fenced("bench -m M -p 8 -n 4 -r 1 -q");
    fenced("tokenize -m M");
    fenced("tokenize -m M -f TEXT -q");
    fenced("detokenize -m M -p 1,2,3");
    fenced("inspect M -q");
    fenced("plan M -q");
    fenced("quantize M Q8 Q8_0 -q");
    fenced("pack Q8 OUT --for generic -q");
    fenced("doctor -m M -q");
    fenced("verify M");
    let said = fenced("tune -m M -q");
    assert!(said.is_empty() || said.contains("other programs"), "{said}");
}

/// Kept as it was before the fence: the program's own limits on memory are read anew behind it.
#[test]
fn memory_is_looked_at_behind_the_fence() {
    let line = ["run", "-m", &model(), "-p", "Once", "-n", "4", "--temp", "0", "-v", "--sandbox", "require"];
    let out = run(trill(&line), "");
    assert!(errors(&out).contains("peak memory beyond files"), "{}", errors(&out));
    assert!(errors(&out).contains("the fence is closed: no file can be opened"), "{}", errors(&out));
}

/// What each thread's status says.
fn statuses(process: u32) -> Vec<(i32, String)> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("threads");
    threads
        .map(|entry| {
            let path = entry.expect("a thread").path();
            let thread = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()).expect("a number");
            (thread, std::fs::read_to_string(path.join("status")).expect("a status"))
        })
        .collect()
}

/// A conversation that has answered once and waits.
struct Talk(std::process::Child);

impl Talk {
    fn start(more: &[&str]) -> Talk {
        use std::io::{Read, Write};
        use std::process::Stdio;
        let model = model();
        let line = ["chat", "-m", &model, "-n", "4", "--temp", "0", "-t", "2"];
        let mut command = trill(&[&line[..], more].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("trill starts");
        child.stdin.as_mut().expect("a pipe").write_all(b"Hello\n").expect("a message");
        let mut byte = [0];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut byte).expect("an answer");
        Talk(child)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn all_threads_are_fenced() {
    for (sandbox, mode, privileges) in [("on", "2", "1"), ("off", "0", "0")] {
        let talk = Talk::start(&["--sandbox", sandbox]);
        let threads = statuses(talk.0.id());
        assert!(threads.len() >= 2, "{threads:?}");
        for (thread, status) in threads {
            let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
            // The test itself may run inside a fence.
            let inherited = std::fs::read_to_string("/proc/self/status").is_ok_and(|s| !s.contains("Seccomp:\t0"));
            if sandbox == "on" || !inherited {
                assert_eq!(field("Seccomp:"), Some(mode), "thread {thread}, --sandbox {sandbox}");
                assert_eq!(field("NoNewPrivs:"), Some(privileges), "thread {thread}, --sandbox {sandbox}");
            }
        }
    }
}

/// Makes every thread of a running conversation call the system, as code that took it over would.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod taken_over {
    use super::*;

    /// A stopped thread of a child of ours.
    struct Thread {
        id: i32,
        before: libc::user_regs_struct,
    }

    fn ptrace(request: libc::c_uint, thread: i32, address: usize, data: usize) -> libc::c_long {
        // SAFETY: the requests in use touch memory of the traced thread, and for GETREGS a structure of ours that is
        // large enough and lives.
        let done = unsafe { libc::ptrace(request, thread, address, data) };
        assert!(done != -1, "request {request}: {}", std::io::Error::last_os_error());
        done
    }

    fn wait_for(thread: i32) {
        let mut status = 0;
        // SAFETY: waitpid writes to `status` only.
        let who = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        assert!(who == thread && libc::WIFSTOPPED(status), "{who} {status:#x}");
    }

    impl Thread {
        /// Stops a thread inside a system call, which is where idle threads are.
        fn stop(id: i32) -> Thread {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
            loop {
                ptrace(libc::PTRACE_ATTACH, id, 0, 0);
                wait_for(id);
                // SAFETY: a zeroed register set is a valid value.
                let mut before: libc::user_regs_struct = unsafe { std::mem::zeroed() };
                ptrace(libc::PTRACE_GETREGS, id, 0, (&raw mut before) as usize);
                let code = before.rip.wrapping_sub(2) as usize;
                if before.orig_rax != u64::MAX && ptrace_word(id, code) & 0xffff == 0x050f {
                    return Thread { id, before };
                }
                ptrace(libc::PTRACE_DETACH, id, 0, 0);
                assert!(std::time::Instant::now() < deadline, "thread {id} does not come to rest");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }

        /// What a call gives: a negative number is an error's.
        fn call(&self, number: libc::c_long, arguments: [u64; 4], path: &str) -> i64 {
            // Below what the thread uses of its stack, and below what a leaf function may use.
            let place = (self.before.rsp - 4096) & !15;
            let mut bytes = path.as_bytes().to_vec();
            bytes.resize((path.len() + 1).next_multiple_of(8), 0);
            for (i, word) in bytes.chunks_exact(8).enumerate() {
                let word = usize::from_ne_bytes(word.try_into().expect("eight bytes"));
                ptrace(libc::PTRACE_POKEDATA, self.id, place as usize + 8 * i, word);
            }
            let argument = |i: usize| if arguments[i] == PATH { place } else { arguments[i] };
            let mut registers = self.before;
            // The syscall instruction is run again; the call that was stopped is not started anew.
            registers.rip -= 2;
            registers.orig_rax = u64::MAX;
            registers.rax = number as u64;
            (registers.rdi, registers.rsi) = (argument(0), argument(1));
            (registers.rdx, registers.r10) = (argument(2), argument(3));
            (registers.r8, registers.r9) = (u64::MAX, 0);
            ptrace(libc::PTRACE_SETREGS, self.id, 0, (&raw const registers) as usize);
            ptrace(libc::PTRACE_SINGLESTEP, self.id, 0, 0);
            wait_for(self.id);
            let mut after = registers;
            ptrace(libc::PTRACE_GETREGS, self.id, 0, (&raw mut after) as usize);
            after.rax as i64
        }
    }

    fn ptrace_word(thread: i32, address: usize) -> libc::c_long {
        // SAFETY: PEEKTEXT reads a word of the traced thread. -1 may be a word, too: the caller compares.
        unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, thread, address, 0) }
    }

    /// Stands for the address of the path.
    const PATH: u64 = 0x7061_7468;
    const HERE: u64 = libc::AT_FDCWD as u64;

    /// Calls, and what they give in a process without a fence: an error of another number, or success.
    fn attempts() -> Vec<(&'static str, libc::c_long, [u64; 4], &'static str)> {
        let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let executable = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        vec![
            ("openat", libc::SYS_openat, [HERE, PATH, 0, 0], "/etc/passwd"),
            ("open", libc::SYS_open, [PATH, 0, 0, 0], "/etc/passwd"),
            ("openat2", libc::SYS_openat2, [HERE, PATH, 0, 24], "/etc/passwd"),
            ("creat", libc::SYS_creat, [PATH, 0o600, 0, 0], "/dev/null"),
            ("execve", libc::SYS_execve, [PATH, 0, 0, 0], "/no/such/program"),
            ("execveat", libc::SYS_execveat, [HERE, PATH, 0, 0], "/no/such/program"),
            ("socket", libc::SYS_socket, [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0], ""),
            ("socket unix", libc::SYS_socket, [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0, 0], ""),
            ("connect", libc::SYS_connect, [0, PATH, 16, 0], "0123456789abcdef"),
            ("bind", libc::SYS_bind, [0, PATH, 16, 0], "0123456789abcdef"),
            ("ptrace", libc::SYS_ptrace, [libc::PTRACE_PEEKDATA as u64, 0x3fff_ffff, 0, 0], ""),
            ("process_vm_readv", libc::SYS_process_vm_readv, [0x3fff_ffff, 0, 0, 0], ""),
            ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0], ""),
            ("memfd_create", libc::SYS_memfd_create, [PATH, 0, 0, 0], "x"),
            ("mmap", libc::SYS_mmap, [0, 4096, executable, anonymous], ""),
            ("kill", libc::SYS_kill, [0x3fff_ffff, 0, 0, 0], ""),
            ("chmod", libc::SYS_chmod, [PATH, 0o600, 0, 0], "/no/such/file"),
            ("truncate", libc::SYS_truncate, [PATH, 0, 0, 0], "/no/such/file"),
        ]
    }

    /// Every attempt in every thread; what it gave goes to `check`.
    fn in_every_thread(talk: &Talk, check: &mut dyn FnMut(&str, i64)) {
        for (id, _) in statuses(talk.0.id()) {
            let thread = Thread::stop(id);
            for (name, number, arguments, path) in attempts() {
                check(name, thread.call(number, arguments, path));
            }
            ptrace(libc::PTRACE_SETREGS, id, 0, (&raw const thread.before) as usize);
            ptrace(libc::PTRACE_DETACH, id, 0, 0);
        }
    }

    #[test]
    fn is_refused_everything() {
        let talk = Talk::start(&[]);
        let mut tried = 0;
        in_every_thread(&talk, &mut |name, gave| {
            tried += 1;
            assert_eq!(gave, -i64::from(libc::EPERM), "{name}");
        });
        assert!(tried >= 2 * attempts().len());
        // The same calls of a process without a fence do not fail for want of permission.
        let talk = Talk::start(&["--sandbox", "off"]);
        in_every_thread(&talk, &mut |name, gave| {
            assert!(gave != -i64::from(libc::EPERM) && gave != -i64::from(libc::EACCES), "{name}: {gave}");
        });
    }

    #[test]
    fn reaches_its_session_folder_alone() {
        if !has_landlock() {
            return;
        }
        let folder = Folder::new("session");
        let talk = Talk::start(&["--session", &folder.file("x.session")]);
        let new = (libc::O_RDWR | libc::O_CREAT) as u64;
        std::fs::create_dir_all(folder.0.join("../trill-fence-beside")).expect("a folder");
        for (id, _) in statuses(talk.0.id()) {
            let thread = Thread::stop(id);
            let open = |path: &str, how: u64| thread.call(libc::SYS_openat, [HERE, PATH, how, 0o600], path);
            for path in ["/etc/passwd", "/", "/proc/self/mem", "/dev/tty", &folder.file("../trill-fence-beside")] {
                let gave = open(path, 0);
                let no_terminal = path == "/dev/tty" && gave == -i64::from(libc::ENXIO);
                assert!(gave == -i64::from(libc::EACCES) || no_terminal, "{path}: {gave}");
            }
            assert_eq!(open(&folder.file("../trill-fence-beside/x"), new), -i64::from(libc::EACCES));
            assert!(open(&folder.file("mine"), new) >= 0, "the session's folder is open");
            assert_eq!(thread.call(libc::SYS_execve, [PATH, 0, 0, 0], "/bin/true"), -i64::from(libc::EPERM));
            let link = thread.call(libc::SYS_symlink, [PATH, PATH, 0, 0], &folder.file("link"));
            assert_eq!(link, -i64::from(libc::EPERM));
            ptrace(libc::PTRACE_SETREGS, id, 0, (&raw const thread.before) as usize);
            ptrace(libc::PTRACE_DETACH, id, 0, 0);
        }
        drop(talk);
        assert!(Path::new(&folder.file("mine")).is_file());
        let _ = std::fs::remove_dir(folder.0.join("../trill-fence-beside"));
    }
}
