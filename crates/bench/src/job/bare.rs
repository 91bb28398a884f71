//! The job as the least that a process can be: no dynamic linker, no C library, no runtime, four system calls. With an
//! ordinary program, most of a run would be the program, and the benchmark would hardly see who started it.

#![expect(unsafe_code, reason = "a program without a C library makes its system calls itself")]

use std::{
    arch::{asm, naked_asm},
    ptr,
};

type Time = [i64; 2];
/// An address and a length, as `writev` takes them.
type Piece = [usize; 2];

/// Where the kernel begins: on the stack are the number of arguments and their addresses.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("mov rdi, rsp", "and rsp, -16", "call {run}", "ud2", run = sym run)
}

/// See above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("mov x0, sp", "bl {run}", "brk 1", run = sym run)
}

extern "C" fn run(stack: *const usize) -> ! {
    let mut time: Time = [0; 2];
    call(
        libc::SYS_clock_gettime,
        [libc::CLOCK_MONOTONIC as usize, (&raw mut time).expose_provenance(), 0, 0],
    );
    // SAFETY: the kernel puts the count there, and as many addresses after it.
    let (count, file, sent) = unsafe { (*stack, *stack.add(2), *stack.add(3)) };
    if count < 3 {
        exit(2);
    }
    let flags = (libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC).cast_unsigned() as usize;
    let here = libc::AT_FDCWD.cast_unsigned() as usize;
    let file = call(libc::SYS_openat, [here, file, flags, 0]);
    let mut tail = *b" 0000000000000000000\n";
    number(&mut tail, time);
    let pieces: [Piece; 2] = [[sent, length(sent)], [tail.as_ptr().expose_provenance(), tail.len()]];
    let written = call(libc::SYS_writev, [file, pieces.as_ptr().expose_provenance(), pieces.len(), 0]);
    exit(usize::from(written.cast_signed() <= 0))
}

/// Nanoseconds, between the first and the last character.
fn number(text: &mut [u8], [seconds, nanos]: Time) {
    let mut rest = seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos).cast_unsigned();
    for digit in text.iter_mut().rev().skip(1).take(19) {
        *digit = b'0' | (rest % 10) as u8;
        rest /= 10;
    }
}

/// Of a text that ends with a zero.
fn length(text: usize) -> usize {
    let mut end: *const u8 = ptr::with_exposed_provenance(text);
    // SAFETY: an argument, which the kernel ends with a zero.
    unsafe {
        while *end != 0 {
            end = end.add(1);
        }
    }
    end.addr().wrapping_sub(text)
}

fn exit(code: usize) -> ! {
    loop {
        call(libc::SYS_exit_group, [code, 0, 0, 0]);
    }
}

/// A call that fails yields a negative number; here nothing is done about it but to go on to the next, which fails too.
#[cfg(target_arch = "x86_64")]
fn call(number: i64, [a, b, c, d]: [usize; 4]) -> usize {
    let result;
    // SAFETY: whoever calls gives addresses of what lives for as long as the call.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// See above.
#[cfg(target_arch = "aarch64")]
fn call(number: i64, [a, b, c, d]: [usize; 4]) -> usize {
    let result;
    // SAFETY: as above.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d);
    }
    result
}
