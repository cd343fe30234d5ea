// The exported functions: each counts its call and goes on to its implementation.
//
// What a tracer sees of a library is the first instructions of its exports, so those are written out here,
// one shape per library build, and not left to a compiler:
//   PROLOGUE_R550  libcuda 550: `cmpl $magic, gate(%rip)`, `je`, with registers and stack untouched before.
//   PROLOGUE_R580  libcuda 580: a frame is pushed first, the same `cmpl` and `je` come after it.
//   otherwise      libcudart: `push %rbp`.
// Arguments on the stack stay where they are: the frame is gone again before the jump to the implementation.

#define MAGIC $0x321cba00

#if defined(PROLOGUE_R550)
    .macro push_frame
    .endm
    .macro pop_frame
    .endm
#elif defined(PROLOGUE_R580)
    .macro push_frame
        pushq %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        movq %rsp, %rbp
        pushq %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        subq $0x18, %rsp
        .cfi_adjust_cfa_offset 0x18
    .endm
    .macro pop_frame
        addq $0x18, %rsp
        .cfi_adjust_cfa_offset -0x18
        popq %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r12
        popq %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbp
    .endm
#else
    .macro push_frame
        pushq %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        movq %rsp, %rbp
    .endm
    .macro pop_frame
        popq %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbp
    .endm
#endif

// The gate holds the magic before the first call of a process and after its end; then `standin_open` decides.
// Every second stub keeps that path out of line, so that both encodings of `je` occur (74 rel8, 0f 84 rel32).
.macro closed_gate index
7:  movl $\index, %eax
    call standin_open
    testl %eax, %eax
    je 1b
    .cfi_remember_state
    pop_frame
    ret
    .cfi_restore_state
.endm

.macro stub name, implementation, index, needs_ready
    .globl \name
    .type \name, @function
    .p2align 4
\name:
    .cfi_startproc
    push_frame
    cmpl MAGIC, standin_gate(%rip)
.if \index & 1
    je \name\().closed
.else
    je 7f
.endif
1:  lock incq standin_calls + 8 * \index(%rip)
.if \needs_ready
    cmpl $0, standin_ready(%rip)
    je 8f
.endif
2:  .cfi_remember_state
    pop_frame
    jmp do_\implementation
    .cfi_restore_state
.ifeq \index & 1
    closed_gate \index
.endif
.if \needs_ready
8:  call standin_prepare
    testl %eax, %eax
    je 2b
    pop_frame
    ret
.endif
    .cfi_endproc
    .size \name, . - \name
.if \index & 1
    .pushsection .text.unlikely, "ax", @progbits
    .p2align 4
\name\().closed:
    .cfi_startproc
#if defined(PROLOGUE_R580)
    .cfi_def_cfa %rbp, 16
    .cfi_offset %rbp, -16
    .cfi_offset %r12, -24
#elif !defined(PROLOGUE_R550)
    .cfi_def_cfa %rbp, 16
    .cfi_offset %rbp, -16
#endif
    movl $\index, %eax
    call standin_open
    testl %eax, %eax
    je \name\().open
#if defined(PROLOGUE_R580)
    addq $0x18, %rsp
    popq %r12
#endif
#if !defined(PROLOGUE_R550)
    popq %rbp
    .cfi_def_cfa %rsp, 8
#endif
    ret
    .cfi_endproc
    .popsection
    .set \name\().open, 1b
.endif
.endm

// Calls a C function without losing the caller's arguments; %eax carries its argument and its result.
.macro keep_arguments name, function
    .type \name, @function
    .p2align 4
\name:
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    andq $-16, %rsp
    subq $48, %rsp
    movq %rdi, 0(%rsp)
    movq %rsi, 8(%rsp)
    movq %rdx, 16(%rsp)
    movq %rcx, 24(%rsp)
    movq %r8, 32(%rsp)
    movq %r9, 40(%rsp)
    movl %eax, %edi
    call \function
    movq 0(%rsp), %rdi
    movq 8(%rsp), %rsi
    movq 16(%rsp), %rdx
    movq 24(%rsp), %rcx
    movq 32(%rsp), %r8
    movq 40(%rsp), %r9
    leave
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size \name, . - \name
.endm

    .hidden standin_gate
    .hidden standin_ready
    .hidden standin_calls
    .hidden standin_open_library
    .hidden standin_prepare_library

    .text
    keep_arguments standin_open, standin_open_library
    keep_arguments standin_prepare, standin_prepare_library

#define EARLY(name, implementation, ...) .hidden do_##implementation; stub name, implementation, __COUNTER__, 0;
#define FUNCTION(name, implementation, ...) .hidden do_##implementation; stub name, implementation, __COUNTER__, 1;
#include FUNCTIONS

    .section .note.GNU-stack, "", @progbits
