# A function with an address in its code, which the loader has to write there.
.text
.globl cuEventRecord
.type cuEventRecord,@function
.p2align 4
cuEventRecord:
 movabs $target,%rax
 lock incq (%rdi)
 xor %eax,%eax
 ret
.size cuEventRecord,.-cuEventRecord
.data
target: .quad 0
.section .note.GNU-stack,"",@progbits
