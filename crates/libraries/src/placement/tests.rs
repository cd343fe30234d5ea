//! Prologues of real libraries, and the ways in which a place behind the entry would be wrong.

use super::*;

const ENTRY: u64 = 0x26_5b10;

/// `cmpl $0x321cba00, off(%rip)`: how functions of the 550 drivers begin.
const COMPARE: [u8; 10] = [0x81, 0x3d, 0x12, 0x34, 0x56, 0x01, 0x00, 0xba, 0x1c, 0x32];

fn stays(code: &[u8], instruction: Probed) {
    let expected = Placement { offset: 0, emulated: instruction.is_emulated(), instruction };
    assert_eq!(place(code, ENTRY), Ok(expected), "{code:02x?}");
}

fn moves(code: &[u8], offset: usize, instruction: Probed) {
    assert_eq!(
        place(code, ENTRY),
        Ok(Placement { offset, emulated: true, instruction }),
        "{code:02x?}"
    );
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn driver_550_is_probed_at_its_first_jump() {
    // je +0x35 (short); je +0x135 (near); then push %rbp; mov %rsp,%rbp; ret
    let rest = [0x55, 0x48, 0x89, 0xe5, 0xc3];
    moves(&joined(&[&COMPARE, &[0x74, 0x35], &rest]), 10, Probed::ConditionalJump);
    moves(
        &joined(&[&COMPARE, &[0x0f, 0x84, 0x35, 0x01, 0x00, 0x00], &rest]),
        10,
        Probed::ConditionalJump,
    );
}

#[test]
fn driver_580_is_probed_at_its_entry() {
    // push %rbp; mov %rsp,%rbp; push %r12; sub $0x18,%rsp; cmpl; je: that later jump must not
    // be taken.
    let code = joined(&[
        &[0x55, 0x48, 0x89, 0xe5, 0x41, 0x54, 0x48, 0x83, 0xec, 0x18],
        &COMPARE,
        &[0x74, 0x10],
    ]);
    stays(&code, Probed::Push);
}

#[test]
fn emulated_instructions_stay_where_they_are() {
    // The runtime library: push %rbp; push %r15.
    stays(&[0x55, 0x41, 0x57, 0x41, 0x56], Probed::Push);
    for register in 0x50..=0x57 {
        stays(&[register, 0xc3], Probed::Push);
        stays(&[0x41, register, 0xc3], Probed::Push);
    }
    stays(&[0x90, 0xc3], Probed::Nop);
    stays(&[0xeb, 0x10], Probed::Jump);
    stays(&[0xe9, 0x10, 0x00, 0x00, 0x00], Probed::Jump);
    stays(&[0xe8, 0x10, 0x00, 0x00, 0x00], Probed::Call);
    for condition in 0x0..=0xf {
        stays(&[0x70 | condition, 0x10], Probed::ConditionalJump);
        stays(&[0x0f, 0x80 | condition, 0x10, 0x00, 0x00, 0x00], Probed::ConditionalJump);
    }
}

#[test]
fn prefixes_and_other_forms_are_not_emulated() {
    for code in [
        &[0x66, 0x55, 0xc3][..],                     // push %bp
        &[0x48, 0x55, 0xc3],                         // push %rbp with a needless REX.W
        &[0x6a, 0x01, 0xc3],                         // push $1
        &[0xff, 0x30, 0xc3],                         // push (%rax)
        &[0xf3, 0x90, 0xc3],                         // pause
        &[0x66, 0xe9, 0x10, 0x00, 0x00, 0x00, 0xc3], // jump with an operand-size prefix
        &[0x3e, 0x74, 0x10, 0xc3],                   // je with a branch hint
        &[0xe3, 0x10, 0xc3],                         // jrcxz
        &[0xe2, 0x10, 0xc3],                         // loop
        &[0xff, 0x25, 0x10, 0x00, 0x00, 0x00, 0x55], // jmp *off(%rip)
        &[0xff, 0xe0, 0x55],                         // jmp *%rax
        &[0xff, 0x15, 0x10, 0x00, 0x00, 0x00, 0x55], // call *off(%rip)
        &[0xc3, 0x55],                               // ret
        &[0xcc, 0x55],                               // int3
        &[0x0f, 0x05, 0x55],                         // syscall
        &[0x0f, 0x0b, 0x55],                         // ud2
    ] {
        stays(code, Probed::Other);
    }
}

#[test]
fn harmless_instructions_are_passed() {
    let push = [0x55];
    moves(&joined(&[&[0xf3, 0x0f, 0x1e, 0xfa], &push]), 4, Probed::Push); // endbr64
    moves(&joined(&[&[0x0f, 0x1f, 0x44, 0x00, 0x00], &push]), 5, Probed::Push); // nopl
    moves(&joined(&[&[0x66, 0x90], &push]), 2, Probed::Push); // nop of two bytes
    moves(&joined(&[&[0x45, 0x31, 0xdb], &push]), 3, Probed::Push); // xor %r11d,%r11d
    moves(&joined(&[&[0x4c, 0x8b, 0x1f], &push]), 3, Probed::Push); // mov (%rdi),%r11
    moves(&joined(&[&[0x48, 0x85, 0xff], &[0x74, 0x20]]), 3, Probed::ConditionalJump); // test %rdi,%rdi; je
    moves(
        &joined(&[&[0x48, 0x83, 0xff, 0x00], &[0x0f, 0x84, 0x20, 0, 0, 0]]),
        4,
        Probed::ConditionalJump,
    );
    // endbr64; cmpl; je, as a 550-style driver built for indirect branch tracking would begin.
    moves(
        &joined(&[&[0xf3, 0x0f, 0x1e, 0xfa], &COMPARE, &[0x74, 0x35]]),
        14,
        Probed::ConditionalJump,
    );
}

#[test]
fn clobbered_arguments_keep_the_probe_at_the_entry() {
    let push = [0x55];
    for before in [
        &[0x31, 0xc0][..],                           // xor %eax,%eax
        &[0x31, 0xff],                               // xor %edi,%edi
        &[0x48, 0x8b, 0x37],                         // mov (%rdi),%rsi
        &[0x40, 0xb6, 0x01],                         // mov $1,%sil
        &[0x88, 0xca],                               // mov %cl,%dl
        &[0xb9, 0x01, 0x00, 0x00, 0x00],             // mov $1,%ecx
        &[0x4d, 0x89, 0xc8],                         // mov %r9,%r8
        &[0x45, 0x31, 0xc9],                         // xor %r9d,%r9d
        &[0x45, 0x31, 0xd2],                         // xor %r10d,%r10d
        &[0x0f, 0x28, 0xc1],                         // movaps %xmm1,%xmm0
        &[0x0f, 0x57, 0xc0],                         // xorps %xmm0,%xmm0
        &[0x48, 0x8d, 0x05, 0x10, 0x00, 0x00, 0x00], // lea off(%rip),%rax
        &[0x48, 0x87, 0xf7],                         // xchg %rsi,%rdi
    ] {
        stays(&joined(&[before, &push]), Probed::Other);
    }
}

#[test]
fn writes_and_the_stack_keep_the_probe_at_the_entry() {
    let push = [0x55];
    for before in [
        &[0x48, 0x83, 0xec, 0x18][..],               // sub $0x18,%rsp
        &[0x48, 0x89, 0xe5],                         // mov %rsp,%rbp
        &[0x4c, 0x8b, 0x5c, 0x24, 0x08],             // mov 8(%rsp),%r11
        &[0x48, 0x89, 0x7c, 0x24, 0xf8],             // mov %rdi,-8(%rsp)
        &[0xc7, 0x05, 0x10, 0, 0, 0, 0x01, 0, 0, 0], // movl $1,off(%rip)
        &[0x83, 0x05, 0x10, 0x00, 0x00, 0x00, 0x01], // addl $1,off(%rip)
        &[0xf0, 0xff, 0x05, 0x10, 0x00, 0x00, 0x00], // lock incl off(%rip)
        &[0x6a, 0x01],                               // push $1
        &[0xc8, 0x10, 0x00, 0x00],                   // enter
        &[0x0f, 0xa2],                               // cpuid
        &[0xf3, 0xa4],                               // rep movsb
        &[0xf3, 0x48, 0x0f, 0xae, 0xd3],             // wrfsbase %rbx
    ] {
        stays(&joined(&[before, &push]), Probed::Other);
    }
    // The first instruction is harmless, the second is not.
    stays(&joined(&[&COMPARE, &[0x48, 0x83, 0xec, 0x18], &[0x74, 0x35]]), Probed::Other);
}

#[test]
fn jumps_to_the_skipped_bytes_keep_the_probe_at_the_entry() {
    // cmpl (10); je +0 (2); nop (1), then at 13 a jump back by a signed byte, counted from 15.
    let with_jump =
        |back: i8| joined(&[&COMPARE, &[0x74, 0x00, 0x90], &[0xeb, back.cast_unsigned()], &[0xc3]]);
    stays(&with_jump(-15), Probed::Other); // to the entry
    stays(&with_jump(-12), Probed::Other); // into the compare
    stays(&with_jump(-5), Probed::Other); // to the probe: hits that are no calls
    moves(&with_jump(-3), 10, Probed::ConditionalJump); // behind the probe
    moves(&with_jump(-16), 10, Probed::ConditionalJump); // before the function
    moves(&with_jump(0), 10, Probed::ConditionalJump);
}

#[test]
fn all_kinds_of_branches_back_are_seen() {
    let begin = joined(&[&COMPARE, &[0x74, 0x00]]);
    let back = |opcode: &[u8], width: usize| {
        let distance = -(i32::try_from(begin.len() + opcode.len() + width).unwrap()) + 4;
        joined(&[&begin, opcode, &distance.to_le_bytes()[..width], &[0xc3]])
    };
    for (opcode, width) in [
        (&[0xeb][..], 1),
        (&[0x75], 1),
        (&[0xe0], 1),
        (&[0xe1], 1),
        (&[0xe2], 1),
        (&[0xe3], 1),
        (&[0xe9], 4),
        (&[0xe8], 4),
        (&[0x0f, 0x85], 4),
        (&[0xf2, 0xe9], 4),
        (&[0xc7, 0xf8], 4),
    ] {
        stays(&back(opcode, width), Probed::Other);
    }
    // Recursion is a call like any other: call to the entry.
    let recursion = joined(&[&begin, &[0xe8], &(-17_i32).to_le_bytes(), &[0xc3]]);
    moves(&recursion, 10, Probed::ConditionalJump);
}

#[test]
fn a_jump_back_behind_data_is_seen() {
    // 0x06 is no instruction in 64-bit mode.
    let code =
        joined(&[&COMPARE, &[0x74, 0x00, 0xc3, 0x06, 0x06], &[0xeb, (-17_i8).cast_unsigned()]]);
    stays(&code, Probed::Other);
}

#[test]
fn bytes_that_end_or_mean_nothing_stay_at_the_entry() {
    stays(&[], Probed::Unknown);
    stays(&COMPARE[..4], Probed::Unknown);
    stays(&[0x06, 0x55], Probed::Unknown);
    stays(&COMPARE, Probed::Other);
    stays(&joined(&[&COMPARE, &[0x0f, 0x84]]), Probed::Other); // half a jump
    stays(&joined(&[&COMPARE, &[0x06, 0x55]]), Probed::Other);
    stays(&[0x41], Probed::Unknown);
}

#[test]
fn the_walk_is_short() {
    let nopl = [0x0f, 0x1f, 0x00];
    moves(&joined(&[&nopl, &nopl, &nopl, &[0x55]]), 9, Probed::Push);
    stays(&joined(&[&nopl, &nopl, &nopl, &nopl, &[0x55]]), Probed::Other);
    // The fourth instruction would end behind the 32nd byte.
    let long_nop = [0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00];
    let longer_nop = [0x66, 0x66, 0x66, 0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00];
    moves(&joined(&[&long_nop, &long_nop, &longer_nop, &[0x41, 0x54]]), 30, Probed::Push);
    assert!(place(&joined(&[&long_nop, &longer_nop, &longer_nop, &[0x55]]), ENTRY).is_err());
    let compare_long = joined(&[&COMPARE, &COMPARE, &[0x48], &COMPARE, &[0; 1]]);
    stays(&joined(&[&compare_long[..32], &[0x55]]), Probed::Other);
}

#[test]
fn no_bytes_make_it_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut code = [0_u8; 48];
    for _ in 0..20_000 {
        for byte in &mut code {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
        let length = usize::from(code[0]) % code.len();
        for address in [0, ENTRY, u64::MAX - 3] {
            let Ok(placement) = place(&code[..length], address) else { continue };
            assert!(placement.offset < MAX_BYTES);
            let begins_with_nop = is_long_nop(
                &Decoder::with_ip(64, &code[..length], 0, DecoderOptions::NONE).decode(),
            );
            assert!(placement.offset == 0 || placement.emulated || begins_with_nop);
        }
    }
}

/// What the kernel's `insn_is_nop` takes for a `nop`, in five bytes or more.
const LONG_NOPS: [&[u8]; 9] = [
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x40, 0x00],
    &[0x66, 0x66, 0x66, 0x66, 0x90],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    // lea 0x0(%rsi,%riz,1),%rsi, and with a base alone; mov %esi,%esi with prefixes.
    &[0x48, 0x8d, 0x74, 0x26, 0x00],
    &[0x48, 0x8d, 0xb6, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x66, 0x66, 0x89, 0xf6],
];

#[test]
fn no_probe_replaces_a_long_nop_and_the_next_instruction_takes_it() {
    // mov off(%rip),%rax changes a register: nothing behind it may be probed, but itself.
    let load = [0x48, 0x8b, 0x05, 0x12, 0x34, 0x56, 0x01, 0xc3];
    for nop in LONG_NOPS {
        moves(&joined(&[nop, &[0x55, 0xc3]]), nop.len(), Probed::Push);
        let single_stepped =
            Placement { offset: nop.len(), emulated: false, instruction: Probed::Other };
        assert_eq!(place(&joined(&[nop, &load]), ENTRY), Ok(single_stepped), "{nop:02x?}");
        // Behind two of them, and behind a mark for indirect jumps.
        moves(&joined(&[nop, nop, &[0x55, 0xc3]]), 2 * nop.len(), Probed::Push);
        stays(&joined(&[&[0xf3, 0x0f, 0x1e, 0xfa], nop, &load]), Probed::Other);
    }
}

#[test]
fn a_function_with_a_long_nop_that_a_probe_cannot_go_behind_gets_none() {
    for nop in LONG_NOPS {
        // jmp to the instruction behind the nop, and to the entry; the nop alone, and garbage.
        let to = |target: usize, at: usize| target.wrapping_sub(at + 2).to_le_bytes()[0];
        let length = nop.len();
        for target in [length, 0] {
            let jump = [0x31, 0xc0, 0xeb, to(target, length + 2)];
            assert!(place(&joined(&[nop, &jump]), ENTRY).is_err(), "{nop:02x?} {target}");
        }
        assert!(place(nop, ENTRY).is_err());
        assert!(place(&joined(&[nop, &[0x06]]), ENTRY).is_err());
        assert!(place(&joined(&[nop, nop, nop, nop, &[0x55]]), ENTRY).is_err());
    }
    // A jump to the next instruction is such a nop too.
    assert!(place(&[0xe9, 0x00, 0x00, 0x00, 0x00, 0x55, 0xc3], ENTRY).is_err());
    // Shorter ones are not replaced.
    stays(&[0x0f, 0x1f, 0x40, 0x00, 0x48, 0x8b, 0x05, 0, 0, 0, 0], Probed::Other);
    stays(&[0x66, 0x90, 0x48, 0x8b, 0x05, 0, 0, 0, 0], Probed::Other);
}

#[test]
fn a_long_nop_further_on_is_no_cheaper_place() {
    // cmpl; jmp to the next instruction, which is a nop to the kernel.
    stays(&joined(&[&COMPARE, &[0xe9, 0x00, 0x00, 0x00, 0x00, 0xc3]]), Probed::Other);
}

#[test]
fn what_no_function_can_be_is_no_code() {
    // push %rbp; mov %rsp,%rbp; lock incq (%rdi); xor %eax,%eax; pop %rbp; ret
    let whole =
        [0x55, 0x48, 0x89, 0xe5, 0xf0, 0x48, 0xff, 0x07, 0x31, 0xc0, 0x5d, 0xc3, 0x90, 0x90];
    assert!(is_code(&whole, ENTRY, true));
    assert!(is_code(&whole[..11], ENTRY, false), "a part of it");
    assert!(is_code(&whole[..6], ENTRY, false), "cut amid an instruction");
    assert!(!is_code(&whole[..11], ENTRY, true), "it falls out of its end");
    let abort = [0x50, 0xe8, 1, 2, 3, 4];
    assert!(is_code(&abort, ENTRY, true), "it calls what does not return");
    assert!(is_code(&[0xff, 0x25, 1, 2, 3, 4, 0x06], ENTRY, true), "a jump; nothing behind counts");
    assert!(!is_code(&[0x50, 0x06, 0xc3], ENTRY, false), "no instruction of 64 bits");
    assert!(!is_code(&[0x50, 0xf4, 0xc3], ENTRY, false), "hlt, which only the kernel may");
    assert!(!is_code(&[], ENTRY, true));
}
