//! What a machine without a C library must bring: an entry point, two system calls, four memory functions.
//! The memory functions are single instructions or byte loops in assembly, since the compiler would turn a
//! loop in Rust into a call of the very function it is in.

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {entry}",
    "ud2",
    ".globl memcpy",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".globl memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".globl memmove",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "mov r8, rdi",
    "sub r8, rsi",
    "cmp r8, rdx",
    "jb 2f",
    "rep movsb",
    "ret",
    "2:",
    "lea rdi, [rdi + rcx - 1]",
    "lea rsi, [rsi + rcx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    ".globl memcmp, bcmp",
    "memcmp:",
    "bcmp:",
    "xor eax, eax",
    "3:",
    "test rdx, rdx",
    "je 4f",
    "movzx eax, byte ptr [rdi]",
    "movzx ecx, byte ptr [rsi]",
    "inc rdi",
    "inc rsi",
    "dec rdx",
    "sub eax, ecx",
    "je 3b",
    "4:",
    "ret",
    entry = sym entry,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "bl {entry}",
    "brk #1",
    ".globl memcpy, memmove",
    "memcpy:",
    "memmove:",
    "mov x3, x0",
    "sub x4, x0, x1",
    "cmp x4, x2",
    "b.lo 3f",
    "2: cbz x2, 4f",
    "ldrb w5, [x1], #1",
    "strb w5, [x3], #1",
    "sub x2, x2, #1",
    "b 2b",
    "3: cbz x2, 4f",
    "sub x2, x2, #1",
    "ldrb w5, [x1, x2]",
    "strb w5, [x3, x2]",
    "b 3b",
    "4: ret",
    ".globl memset",
    "memset:",
    "mov x3, x0",
    "5: cbz x2, 6f",
    "strb w1, [x3], #1",
    "sub x2, x2, #1",
    "b 5b",
    "6: ret",
    ".globl memcmp, bcmp",
    "memcmp:",
    "bcmp:",
    "7: cbz x2, 8f",
    "ldrb w3, [x0], #1",
    "ldrb w4, [x1], #1",
    "sub x2, x2, #1",
    "subs w3, w3, w4",
    "b.eq 7b",
    "mov w0, w3",
    "ret",
    "8: mov w0, #0",
    "ret",
    entry = sym entry,
);

extern "C" fn entry() -> ! {
    crate::start()
}

/// System call `number` (x86-64's and aarch64's differ) with three arguments.
fn system_call(number: usize, a: usize, b: usize, c: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `write` reads `c` bytes of a live string, `exit` takes a number; the kernel clobbers rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") number => _, in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: `write` reads `c` bytes of a live string, `exit` takes a number.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => _, in("x1") b, in("x2") c, options(nostack));
    }
}

const WRITE: usize = if cfg!(target_arch = "x86_64") { 1 } else { 64 };
const EXIT: usize = if cfg!(target_arch = "x86_64") { 60 } else { 93 };

/// Writes to standard output.
pub fn print(text: &str) {
    system_call(WRITE, 1, text.as_ptr() as usize, text.len());
}

/// Ends the program.
pub fn exit(code: usize) -> ! {
    system_call(EXIT, code, 0, 0);
    loop {
        core::hint::spin_loop();
    }
}
