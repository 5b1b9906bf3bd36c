//! The fence around a process that has loaded its model: what the system itself refuses from then on, by Landlock
//! (files, and on newer kernels sockets and signals) and seccomp (system calls). There is no way back.
//!
//! Calls are refused by a list of what trill never needs once it works, not allowed by a list of what it does: the
//! C libraries and the standard library change what they call, and a call that an allow list forgot would end an answer
//! in the middle. `docs/security.md` says what remains possible.

// Numbers of ioctl requests have another type with musl.
#![allow(clippy::unnecessary_cast)]

use std::path::PathBuf;

/// What the fence is made of. Each part holds, or says why not.
pub(crate) struct Fence {
    /// No file can be opened but in the folders given.
    pub(crate) files: Result<(), String>,
    /// No program, no connection, no other process, no privilege of the kernel.
    pub(crate) calls: Result<(), String>,
}

impl Fence {
    /// What does not hold, and why.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let parts = [("files", &self.files), ("programs and network", &self.calls)];
        parts.into_iter().filter_map(|(name, part)| Some((name, part.as_ref().err()?.as_str())))
    }
}

/// Fences the whole process in: every thread that runs and every one that will. Afterwards files can be opened only in
/// `folders`; where there is none, no path is followed at all.
pub(crate) fn enter(folders: &[PathBuf]) -> Fence {
    system::enter(folders)
}

/// What the running kernel has of it, in words.
pub(crate) fn describe() -> String {
    system::describe()
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod system {
    use super::{Fence, PathBuf};

    const NONE: &str = "trill has no fence on this system";

    pub(super) fn enter(_: &[PathBuf]) -> Fence {
        Fence { files: Err(NONE.into()), calls: Err(NONE.into()) }
    }

    pub(super) fn describe() -> String {
        NONE.into()
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod system {
    use super::super::memory;
    use super::{Fence, PathBuf};
    use crate::exit::reason;
    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictSelfAttr, Ruleset,
        RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        sock_filter,
    };
    use std::collections::BTreeMap;
    use std::io;

    pub(super) fn enter(folders: &[PathBuf]) -> Fence {
        let locked = restrict_files(folders);
        let calls = restrict_calls(folders.is_empty());
        // Without a folder the calls that open files are refused too, Landlock or not.
        let files = if folders.is_empty() && calls.is_ok() { Ok(()) } else { locked };
        Fence { files, calls }
    }

    pub(super) fn describe() -> String {
        // SAFETY: with this flag the call takes no structure and only gives the version.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) };
        let landlock = if version > 0 { format!("Landlock {version}") } else { "no Landlock".to_owned() };
        let seccomp = if has_seccomp() { "seccomp" } else { "no seccomp" };
        format!("{landlock}, {seccomp}")
    }

    /// What a folder of ours is for: files in it are read, written, made, renamed and removed.
    fn in_folders() -> BitFlags<AccessFs> {
        make_bitflags!(AccessFs::{ReadFile | WriteFile | ReadDir | RemoveFile | MakeReg | Truncate})
    }

    /// Lets Landlock refuse every file outside `folders`.
    fn restrict_files(folders: &[PathBuf]) -> Result<(), String> {
        let why = |e: RulesetError| e.to_string();
        let made = || {
            // Kernels know only some of this; what they do not know is left out.
            let mut rules = Ruleset::default()
                .handle_access(AccessFs::from_all(ABI::V5))?
                .handle_access(AccessNet::from_all(ABI::V4))?
                .scope(Scope::from_all(ABI::V6))?
                .create()?
                .all_threads(true)?;
            // A folder that is not there needs no rule: opening a file in it fails anyway.
            for folder in folders.iter().filter_map(|f| PathFd::new(f).ok()) {
                rules = rules.add_rule(PathBeneath::new(folder, in_folders()))?;
            }
            rules.restrict_self()
        };
        let status = made().map_err(why)?;
        match status.landlock {
            LandlockStatus::NotEnabled => return Err("Landlock is not enabled in this kernel".to_owned()),
            LandlockStatus::NotImplemented => return Err("this kernel has no Landlock".to_owned()),
            _ if status.ruleset == RulesetStatus::NotEnforced => return Err("Landlock enforced nothing".to_owned()),
            _ => {}
        }
        // Threads that run already are fenced by newer kernels only; later ones always are.
        match memory::threads() {
            Some(1) => Ok(()),
            _ if status.all_threads => Ok(()),
            Some(n) => Err(format!("{n} threads ran already and this kernel fences only one of them")),
            None => Err("other threads may have run already".to_owned()),
        }
    }

    /// Calls that are refused whatever their arguments are.
    #[rustfmt::skip]
    const REFUSED: &[libc::c_long] = &[
        // Programs.
        libc::SYS_execve, libc::SYS_execveat,
        // Other processes.
        libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
        libc::SYS_pidfd_open, libc::SYS_pidfd_getfd, libc::SYS_pidfd_send_signal, libc::SYS_kcmp,
        libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_shmget, libc::SYS_shmat, libc::SYS_semget,
        libc::SYS_msgget, libc::SYS_mq_open,
        // The network. Sockets that are open already can be read, written and accepted from.
        libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_sendmsg,
        libc::SYS_sendmmsg, libc::SYS_recvmsg, libc::SYS_recvmmsg,
        // What Landlock does not see of files.
        libc::SYS_truncate, libc::SYS_fchmodat, libc::SYS_fchownat, libc::SYS_utimensat, libc::SYS_setxattr,
        libc::SYS_lsetxattr, libc::SYS_removexattr, libc::SYS_lremovexattr, libc::SYS_mknodat, libc::SYS_symlinkat,
        libc::SYS_name_to_handle_at, libc::SYS_open_by_handle_at, libc::SYS_fanotify_init, libc::SYS_fanotify_mark,
        libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_chroot, libc::SYS_pivot_root,
        // Files and programs that are only memory.
        libc::SYS_memfd_create, libc::SYS_userfaultfd,
        // Doors into the kernel, some of which open files or sockets past this list.
        libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_bpf,
        libc::SYS_perf_event_open, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl, libc::SYS_init_module,
        libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load,
        // The machine.
        libc::SYS_mount, libc::SYS_umount2, libc::SYS_move_mount, libc::SYS_open_tree, libc::SYS_fsopen,
        libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_mount_setattr, libc::SYS_unshare,
        libc::SYS_setns, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_reboot, libc::SYS_acct, libc::SYS_quotactl,
        libc::SYS_personality, libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex,
        libc::SYS_clock_adjtime, libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_syslog, libc::SYS_vhangup,
        #[cfg(target_arch = "x86_64")] libc::SYS_kexec_file_load,
        #[cfg(target_arch = "x86_64")] libc::SYS_fork,
        #[cfg(target_arch = "x86_64")] libc::SYS_vfork,
        #[cfg(target_arch = "x86_64")] libc::SYS_chmod,
        #[cfg(target_arch = "x86_64")] libc::SYS_chown,
        #[cfg(target_arch = "x86_64")] libc::SYS_lchown,
        #[cfg(target_arch = "x86_64")] libc::SYS_utime,
        #[cfg(target_arch = "x86_64")] libc::SYS_utimes,
        #[cfg(target_arch = "x86_64")] libc::SYS_futimesat,
        #[cfg(target_arch = "x86_64")] libc::SYS_mknod,
        #[cfg(target_arch = "x86_64")] libc::SYS_symlink,
        #[cfg(target_arch = "x86_64")] libc::SYS_inotify_init,
        #[cfg(target_arch = "x86_64")] libc::SYS_iopl,
        #[cfg(target_arch = "x86_64")] libc::SYS_ioperm,
        #[cfg(target_arch = "x86_64")] libc::SYS_modify_ldt,
        #[cfg(target_arch = "x86_64")] libc::SYS_uselib,
    ];

    /// Calls that have no number in every C library's headers.
    const REFUSED_BY_NUMBER: &[libc::c_long] = &[
        #[cfg(target_arch = "aarch64")]
        294, // kexec_file_load
        // The same on all machines:
        443, // quotactl_fd
        447, // memfd_secret
        452, // fchmodat2
        463, // setxattrat
        466, // removexattrat
        467, // open_tree_attr
    ];

    /// Calls that follow a path, refused where there is nothing to open any more.
    #[rustfmt::skip]
    const PATHS: &[libc::c_long] = &[
        libc::SYS_openat, libc::SYS_openat2, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2,
        libc::SYS_linkat, libc::SYS_mkdirat,
        #[cfg(target_arch = "x86_64")] libc::SYS_open,
        #[cfg(target_arch = "x86_64")] libc::SYS_creat,
        #[cfg(target_arch = "x86_64")] libc::SYS_unlink,
        #[cfg(target_arch = "x86_64")] libc::SYS_rename,
        #[cfg(target_arch = "x86_64")] libc::SYS_link,
        #[cfg(target_arch = "x86_64")] libc::SYS_mkdir,
        #[cfg(target_arch = "x86_64")] libc::SYS_rmdir,
    ];

    /// System calls of the x32 ABI have this bit, other numbers and the same architecture.
    #[cfg(target_arch = "x86_64")]
    const X32: u32 = 0x4000_0000;

    /// A request to a device as the kernel counts it: C libraries do not agree on its type.
    #[allow(clippy::unnecessary_cast)]
    fn request(call: libc::Ioctl) -> u64 {
        call as u64
    }

    /// The rules for calls that are refused with certain arguments only.
    fn refused_in_part() -> seccompiler::Result<Vec<(libc::c_long, Vec<SeccompRule>)>> {
        use SeccompCmpArgLen::{Dword, Qword};
        use SeccompCmpOp::{Eq, MaskedEq, Ne};
        let rule = |argument, length, op, value| -> seccompiler::Result<SeccompRule> {
            Ok(SeccompRule::new(vec![SeccompCondition::new(argument, length, op, value)?])?)
        };
        let own = u64::from(std::process::id());
        let (executable, thread) = (libc::PROT_EXEC as u64, libc::CLONE_THREAD as u64);
        let no_new_code = || rule(2, Dword, MaskedEq(executable), executable);
        // What types for the user, or takes the terminal's output: then a shell would obey it.
        let typing = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD, libc::TIOCCONS];
        Ok(vec![
            (libc::SYS_clone, vec![rule(0, Dword, MaskedEq(thread), 0)?]),
            (libc::SYS_kill, vec![rule(0, Dword, Ne, own)?]),
            (libc::SYS_tgkill, vec![rule(0, Dword, Ne, own)?]),
            (libc::SYS_prlimit64, vec![rule(0, Dword, Ne, 0)?]),
            (libc::SYS_sendto, vec![rule(4, Qword, Ne, 0)?]),
            (libc::SYS_mmap, vec![no_new_code()?]),
            (libc::SYS_mprotect, vec![no_new_code()?]),
            (libc::SYS_pkey_mprotect, vec![no_new_code()?]),
            (libc::SYS_ioctl, typing.iter().map(|&call| rule(1, Dword, Eq, request(call))).collect::<Result<_, _>>()?),
        ])
    }

    /// The filter that refuses all of these. `paths`: those of [`PATHS`] too.
    fn filter(paths: bool) -> seccompiler::Result<BpfProgram> {
        let whole = REFUSED.iter().chain(REFUSED_BY_NUMBER).chain(if paths { PATHS } else { &[] });
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = whole.map(|&call| (call, Vec::new())).collect();
        rules.extend(refused_in_part()?);
        let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32));
        let arch = std::env::consts::ARCH.try_into()?;
        let compiled: BpfProgram = SeccompFilter::new(rules, allow, refuse, arch)?.try_into()?;
        let mut program = absent_calls();
        program.extend(compiled);
        Ok(program)
    }

    /// Goes before the filter: calls that are said not to exist. The arguments of `clone3` are in memory, where a
    /// filter cannot look; C libraries take `clone` then.
    fn absent_calls() -> BpfProgram {
        let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
        let load_number = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
        let absent = step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        let unless = |test: u32, number: u32| step(libc::BPF_JMP | test | libc::BPF_K, 0, 1, number);
        let mut program = vec![load_number];
        program.extend([unless(libc::BPF_JEQ, libc::SYS_clone3 as u32), absent.clone()]);
        #[cfg(target_arch = "x86_64")]
        program.extend([unless(libc::BPF_JGE, X32), absent]);
        program
    }

    /// Lets seccomp refuse calls, in every thread.
    fn restrict_calls(paths: bool) -> Result<(), String> {
        let program = filter(paths).map_err(|e| e.to_string())?;
        install(&program).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOSYS | libc::EINVAL) => "this kernel has no seccomp filters".to_owned(),
            _ => format!("seccomp: {}", reason(&e)),
        })
    }

    /// Installs a filter for all threads. `seccompiler` can do that as well, but not with the flag that leaves the CPU's
    /// speculation as it was: on x86 kernels before 5.16 a filter without it makes the whole process slower.
    fn install(program: &BpfProgram) -> io::Result<()> {
        let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let whole = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
        let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        // SAFETY: both calls only read their arguments; `whole` points to `len` instructions of the kernel's layout,
        // which live until the call returns.
        let done = unsafe {
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const whole)
        };
        match done {
            0 => Ok(()),
            1.. => Err(io::Error::other(format!("thread {done} has another filter"))),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether filters can be installed: asked for one at address 0, a kernel that knows them finds fault with the
    /// address.
    fn has_seccomp() -> bool {
        // SAFETY: the kernel reads the filter's address, which is no address, and changes nothing.
        let done = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::null::<libc::sock_fprog>())
        };
        done != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// What the filter makes of a call, by the rules of BPF: only the instructions that it may hold.
        fn run(program: &BpfProgram, call: libc::c_long, arguments: [u64; 6]) -> u32 {
            let arch: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
            let mut data = (call as u32).to_le_bytes().to_vec();
            data.extend(arch.to_le_bytes());
            data.extend(0u64.to_le_bytes());
            arguments.iter().for_each(|a| data.extend(a.to_le_bytes()));
            let (mut at, mut a) = (0usize, 0u32);
            loop {
                let step = &program[at];
                at += 1;
                let jump = |holds| usize::from(if holds { step.jt } else { step.jf });
                match u32::from(step.code) {
                    c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                        a = u32::from_le_bytes(data[step.k as usize..][..4].try_into().unwrap());
                    }
                    c if c == libc::BPF_RET | libc::BPF_K => return step.k,
                    c if c == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => a &= step.k,
                    c if c == libc::BPF_JMP | libc::BPF_JA => at += step.k as usize,
                    c if c == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at += jump(a == step.k),
                    c if c == libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K => at += jump(a > step.k),
                    c if c == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += jump(a >= step.k),
                    c => panic!("an instruction that is not in use: {c:#x}"),
                }
            }
        }

        const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
        const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

        #[test]
        fn calls_are_refused_and_allowed_as_listed() {
            let own = u64::from(std::process::id());
            for paths in [false, true] {
                let program = filter(paths).unwrap();
                for &call in REFUSED.iter().chain(REFUSED_BY_NUMBER) {
                    assert_eq!(run(&program, call, [0; 6]), REFUSE, "{call}");
                }
                for &call in PATHS {
                    assert_eq!(run(&program, call, [0; 6]), if paths { REFUSE } else { ALLOW }, "{call}");
                }
                let threads = libc::CLONE_THREAD as u64 | libc::CLONE_VM as u64;
                for (call, arguments, what) in [
                    (libc::SYS_read, [0; 6], ALLOW),
                    (libc::SYS_write, [0; 6], ALLOW),
                    (libc::SYS_futex, [0; 6], ALLOW),
                    (libc::SYS_accept4, [0; 6], ALLOW),
                    (libc::SYS_recvfrom, [0; 6], ALLOW),
                    (libc::SYS_sendto, [3, 9, 9, 0, 0, 0], ALLOW),
                    (libc::SYS_sendto, [3, 9, 9, 0, 1 << 40, 16], REFUSE),
                    (libc::SYS_clone, [threads, 0, 0, 0, 0, 0], ALLOW),
                    (libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0], REFUSE),
                    (libc::SYS_clone3, [0; 6], ABSENT),
                    (libc::SYS_kill, [own, 15, 0, 0, 0, 0], ALLOW),
                    (libc::SYS_kill, [1, 15, 0, 0, 0, 0], REFUSE),
                    (libc::SYS_kill, [u64::MAX, 15, 0, 0, 0, 0], REFUSE),
                    (libc::SYS_tgkill, [own, own, 6, 0, 0, 0], ALLOW),
                    (libc::SYS_tgkill, [1, 1, 6, 0, 0, 0], REFUSE),
                    (libc::SYS_mmap, [0, 4096, 3, 0, 0, 0], ALLOW),
                    (libc::SYS_mmap, [0, 4096, 7, 0, 0, 0], REFUSE),
                    (libc::SYS_mprotect, [0, 4096, 1, 0, 0, 0], ALLOW),
                    (libc::SYS_mprotect, [0, 4096, 5, 0, 0, 0], REFUSE),
                    (libc::SYS_ioctl, [0, request(libc::TIOCGWINSZ), 0, 0, 0, 0], ALLOW),
                    (libc::SYS_ioctl, [0, request(libc::TCSETSW), 0, 0, 0, 0], ALLOW),
                    (libc::SYS_ioctl, [0, request(libc::TIOCSTI), 0, 0, 0, 0], REFUSE),
                    // The upper half of a request is not looked at by the kernel, so it must not be here.
                    (libc::SYS_ioctl, [0, request(libc::TIOCSTI) | 1 << 32, 0, 0, 0, 0], REFUSE),
                    (libc::SYS_prlimit64, [0, 7, 0, 0, 0, 0], ALLOW),
                    (libc::SYS_prlimit64, [1, 7, 0, 0, 0, 0], REFUSE),
                ] {
                    assert_eq!(run(&program, call, arguments), what, "call {call} {arguments:?}");
                }
                #[cfg(target_arch = "x86_64")]
                for call in [59, 257, 512, 520, 545] {
                    assert_eq!(run(&program, call | i64::from(X32), [0; 6]), ABSENT, "x32 {call}");
                }
            }
        }

        #[test]
        fn no_call_is_listed_twice() {
            let mut all: Vec<_> = REFUSED.iter().chain(REFUSED_BY_NUMBER).chain(PATHS).collect();
            let partly = refused_in_part().unwrap();
            all.extend(partly.iter().map(|(call, _)| call));
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }
}
