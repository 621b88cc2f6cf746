// The only export of the library that runs untouched deploy models. Its ops are in the default domain: they replace the
// standard operators of the same name in the sessions it is registered with, and in no other session.

#include "convolution.h"
#include "matrix_ops.h"
#include "pool_and_pad.h"
#include "quantizers.h"
#include "registration.h"

namespace ort_quant {
namespace {

constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kDouble = ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
constexpr auto kHalf = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
constexpr auto kInt32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
constexpr auto kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
constexpr auto kUint32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32;
constexpr auto kUint64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64;

// Overloads of one name differ in their input types; those of ONNX Runtime's own kernels are here besides int8.
std::vector<Domain> make_domains(const OrtApi& api, const KernelTable& kernels) {
  std::vector<Domain> domains;
  domains.push_back(make_domain<DeployOpOf,                                                                   //
      DeployQuant<float>, DeployQuant<Half>, DeployDequant<std::int32_t>, DeployDequant<float>,               //
      DeployAntiQuant, DeployWeightQuant,                                                                     //
      IntegerConv, NativeConvolution<kFloat, false>, NativeConvolution<kHalf, false>,                         //
      IntegerConvTranspose, NativeConvolution<kFloat, true>, NativeConvolution<kHalf, true>,                  //
      IntegerGemm, NativeGemm<kFloat>, NativeGemm<kDouble>, NativeGemm<kHalf>,                                //
      IntegerMatMul, NativeMatMul<kFloat>, NativeMatMul<kDouble>, NativeMatMul<kHalf>, NativeMatMul<kInt32>,  //
      NativeMatMul<kInt64>, NativeMatMul<kUint32>, NativeMatMul<kUint64>,                                     //
      IntegerAveragePool, NativeAveragePool<kFloat>, NativeAveragePool<kHalf>,                                //
      IntegerPad, NativePad<kFloat, 4>, NativePad<kDouble, 8>, NativePad<kHalf, 2>,                           //
      NativePad<ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, 2>, NativePad<ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, 1>,  //
      NativePad<ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, 1>, NativePad<ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, 2>,    //
      NativePad<ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, 2>, NativePad<kInt32, 4>, NativePad<kInt64, 8>,         //
      NativePad<kUint32, 4>, NativePad<kUint64, 8>>(api, kernels, ""));
  return domains;
}

}  // namespace
}  // namespace ort_quant

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  return ort_quant::register_domains(options, *base, &ort_quant::make_domains);
}
