// Turns a kernel class into an OrtCustomOp.
//
// A kernel class K has
//   static constexpr const char* kName;
//   static std::vector<ONNXTensorElementDataType> input_types(), output_types();
//   static OutputShape kOutputShape;                  how the shape of output 0 follows
//   static std::size_t kRequiredInputs, kRequiredOutputs;  with kOpen only: those beyond may be left out
//   static InPlace kInPlace;                          if an output may be written over an input
//   K(const KernelInfo&, const KernelTable&);         reads and checks the attributes
//   void compute(const KernelContext&);               runs once per inference; may be called concurrently
// and throws OpError (or any std::exception) to refuse. No exception passes the C border.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernel_table.h"
#include "ort.h"

namespace ort_quant {

// kOpen: the model states the shapes, if anybody. An op with optional inputs must be open: ONNX Runtime 1.17 looks at
// every input before it calls for the inference of shapes, and crashes where one is left out.
enum class OutputShape { kSameAsInput, kScalarVector /* [1] */, kNone, kOpen };

// Output `output` may lie where input `input` does, if the runtime finds that nobody else reads it.
struct InPlace {
  int input;
  int output;
};

// What all ops share: the C struct and what its callbacks need.
struct CustomOp : OrtCustomOp18 {
  CustomOp(const OrtApi& api, const KernelTable& kernels);
  virtual ~CustomOp() = default;

  const OrtApi* api;
  const KernelTable* kernels;
  const char* name = nullptr;
  OutputShape output_shape = OutputShape::kNone;
  std::vector<ONNXTensorElementDataType> inputs;
  std::vector<ONNXTensorElementDataType> outputs;
  std::size_t required_inputs = std::numeric_limits<std::size_t>::max();
  std::size_t required_outputs = std::numeric_limits<std::size_t>::max();
};

// A status "<op> node '<name>': <what>".
OrtStatus* node_status(const OrtApi& api, const char* op, const std::string& node, const char* what);

// The kernel with what its errors must name.
template <class K>
struct KernelInstance {
  const OrtApi* api;
  std::string node;
  K kernel;
};

template <class K>
struct CustomOpOf : CustomOp {
  CustomOpOf(const OrtApi& ort_api, const KernelTable& table) : CustomOp(ort_api, table) {
    name = K::kName;
    output_shape = K::kOutputShape;
    inputs = K::input_types();
    outputs = K::output_types();
    if constexpr (K::kOutputShape == OutputShape::kOpen) {
      required_inputs = K::kRequiredInputs;
      required_outputs = K::kRequiredOutputs;
      InferOutputShapeFn = nullptr;
    }
    if constexpr (may_be_in_place<K>(0)) GetMayInplace = &list_in_place;
    CreateKernelV2 = &create;
    KernelComputeV2 = &compute;
    KernelDestroy = [](void* kernel) { delete static_cast<KernelInstance<K>*>(kernel); };
  }

 private:
  template <class T>
  static constexpr auto may_be_in_place(int) -> decltype(T::kInPlace, true) { return true; }
  template <class T>
  static constexpr bool may_be_in_place(...) { return false; }

  static std::size_t list_in_place(int** inputs, int** outputs) {
    static InPlace place = K::kInPlace;
    *inputs = &place.input;
    *outputs = &place.output;
    return 1;
  }

  static OrtStatus* create(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* raw_info, void** kernel) {
    std::string node;
    try {
      const KernelInfo info(*api, raw_info);
      node = info.node_name();
      *kernel = new KernelInstance<K>{api, node, K(info, *static_cast<const CustomOp*>(op)->kernels)};
      return nullptr;
    } catch (const std::exception& error) {
      return node_status(*api, K::kName, node, error.what());
    } catch (...) {
      return node_status(*api, K::kName, node, "unknown error");
    }
  }

  static OrtStatus* compute(void* kernel, OrtKernelContext* context) {
    auto& instance = *static_cast<KernelInstance<K>*>(kernel);
    try {
      instance.kernel.compute(KernelContext(*instance.api, context));
      return nullptr;
    } catch (const std::bad_alloc&) {
      return node_status(*instance.api, K::kName, instance.node,
                         "out of memory. Lower the batch size; where this is a calibration node that keeps all values, "
                         "give it storage=\"sketch\", whose memory does not grow with the data, or lower batch_num.");
    } catch (const std::exception& error) {
      return node_status(*instance.api, K::kName, instance.node, error.what());
    } catch (...) {
      return node_status(*instance.api, K::kName, instance.node, "unknown error");
    }
  }
};

}  // namespace ort_quant
