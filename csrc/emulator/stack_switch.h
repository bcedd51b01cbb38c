// Switches stacks: on x86-64 (ELF) by a dozen instructions, elsewhere by swapcontext, which calls
// the kernel twice for each switch and slows the address sanitizer down much more.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && defined(__ELF__)

namespace egl::emulator {

struct StackContext {
  void* stack_pointer = nullptr;
};

extern "C" void egl_emulator_switch_stack(void** leave, void* enter);

// The registers that a function keeps for its caller, by the System V ABI.
asm(R"(
  .text
  .type egl_emulator_switch_stack, @function
egl_emulator_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size egl_emulator_switch_stack, .-egl_emulator_switch_stack
)");

// The first switch to `context` calls `entry`, which must not return, on this stack.
inline void prepare(StackContext& context, void* stack, size_t bytes, void (*entry)()) {
  auto* top = reinterpret_cast<uint64_t*>(static_cast<char*>(stack) + bytes);
  *--top = 0;  // in place of a return address
  *--top = reinterpret_cast<uint64_t>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = 0;
  context.stack_pointer = top;
}

inline void switch_stack(StackContext& from, StackContext& to) {
  egl_emulator_switch_stack(&from.stack_pointer, to.stack_pointer);
}

}  // namespace egl::emulator

#else

#include <ucontext.h>

namespace egl::emulator {

struct StackContext {
  ucontext_t registers;
};

inline void prepare(StackContext& context, void* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = bytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
}

inline void switch_stack(StackContext& from, StackContext& to) {
  swapcontext(&from.registers, &to.registers);
}

}  // namespace egl::emulator

#endif
