# Functions that begin with a five-byte nop, as code built to be patched does. They count their calls where their first
# argument points. Behind the nop of the second no probe can go: a jump leads back there.
.text
.globl cuEventRecord
.type cuEventRecord,@function
.p2align 4
cuEventRecord:
 .byte 0x0f,0x1f,0x44,0x00,0x00
 lock incq (%rdi)
 xor %eax,%eax
 ret
.size cuEventRecord,.-cuEventRecord
.globl cuEventQuery
.type cuEventQuery,@function
.p2align 4
cuEventQuery:
 .byte 0x0f,0x1f,0x44,0x00,0x00
1: test %rdi,%rdi
 js 1b
 lock incq (%rdi)
 xor %eax,%eax
 ret
.size cuEventQuery,.-cuEventQuery
.globl cuEventSynchronize
.type cuEventSynchronize,@function
.p2align 4
cuEventSynchronize:
 .byte 0x0f,0x1f,0x44,0x00,0x00
 mov %rdi,%rax
 lock incq (%rax)
 xor %eax,%eax
 ret
.size cuEventSynchronize,.-cuEventSynchronize
.section .note.GNU-stack,"",@progbits
