// An operator's CUDA half runs on its tensors' device, on the caller's current stream.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstddef>
#include <cstdint>

#include "csrc/cuda/launch.h"
#include "csrc/ops/check.h"

#ifndef EGL_EMULATE
// Part of torch's stable C interface, but only in CUDA builds: null with a CPU build, where no
// tensor ever gets here.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);
#endif

namespace egl::ops::cuda {

// While it lives, the tensor's device is the current one.
class DeviceScope {
 public:
#ifdef EGL_EMULATE
  explicit DeviceScope(const Tensor&) {}
  cudaStream_t stream() const { return nullptr; }
#else
  explicit DeviceScope(const Tensor& tensor) : index_(tensor.get_device_index()), guard_(index_) {}

  cudaStream_t stream() const {
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
    return static_cast<cudaStream_t>(stream);
  }

 private:
  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
#endif
};

inline std::string device_name(const Tensor& tensor) {
  const torch::stable::Device device = tensor.device();
  if (device.is_cpu()) return "cpu";
  if (!device.is_cuda()) return "another device";
  return "cuda:" + std::to_string(device.index());
}

// `tensor` has to be on the device of `like`.
inline void check_device(const Tensor& tensor, const char* name, const Tensor& like,
                         const char* name_of_like) {
  const std::string expected = device_name(like);
  const std::string got = device_name(tensor);
  check(got == expected, name, ": expected on ", expected, " as ", name_of_like, ", got on ", got);
}

// Uninitialized memory for kernels, from torch's caching allocator. It must live until the last
// kernel that uses it is launched; whatever uses the memory next on this stream runs after that.
class Workspace {
 public:
  Workspace(const Tensor& like, size_t bytes)
      : tensor_(torch::stable::new_empty(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte)) {}

  template <typename T>
  T* data() const {
    return static_cast<T*>(tensor_.mutable_data_ptr());
  }

 private:
  Tensor tensor_;
};

// Waits for the stream, and returns what lies at `address` on the device.
template <typename T>
T read_back(const T* address, [[maybe_unused]] const DeviceScope& scope) {
  T value;
#ifdef EGL_EMULATE
  value = *address;
#else
  egl::cuda::check_cuda(
      cudaMemcpyAsync(&value, address, sizeof value, cudaMemcpyDeviceToHost, scope.stream()),
      "cudaMemcpyAsync");
  egl::cuda::check_cuda(cudaStreamSynchronize(scope.stream()), "cudaStreamSynchronize");
#endif
  return value;
}

}  // namespace egl::ops::cuda
