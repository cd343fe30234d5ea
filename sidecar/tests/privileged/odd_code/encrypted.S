# Functions that lie encrypted in the file, between two marks. They are decrypted in place when the library is loaded.
.text
.p2align 12
page:
.ascii "ENCRYPTED BEGINS"
begin:
.macro FUNCTION name
.globl \name
.type \name,@function
.p2align 4
\name:
 push %rbp
 mov %rsp,%rbp
 lock incq (%rdi)
 xor %eax,%eax
 pop %rbp
 ret
.size \name,.-\name
.endm
FUNCTION cuInit
FUNCTION cuEventRecord
end:
.ascii "ENCRYPTED ENDS  "
.p2align 12
# mprotect(page, 4096, all)
decrypt:
 mov $10,%eax
 lea page(%rip),%rdi
 mov $4096,%esi
 mov $7,%edx
 syscall
 lea begin(%rip),%rdi
 lea end(%rip),%rcx
1: xorb $0x5a,(%rdi)
 inc %rdi
 cmp %rcx,%rdi
 jb 1b
# mprotect(page, 4096, read and execute)
 mov $10,%eax
 lea page(%rip),%rdi
 mov $4096,%esi
 mov $5,%edx
 syscall
 ret
.section .init_array,"aw"
 .quad decrypt
.section .note.GNU-stack,"",@progbits
