// The part of ONNX Runtime's C ABI that a custom-op library needs, declared here because the runtime's PyPI packages
// carry no headers. Facts only: slot numbers, field order and enum values of API version 17 (ONNX Runtime 1.17), which
// later runtimes keep. tests/ops/test_abi_conformance.py compares all of it with the official header.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#error "Windows is not supported: the runtime's calling convention and its exports differ there."
#endif

extern "C" {

enum OrtErrorCode { ORT_OK = 0, ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2, ORT_RUNTIME_EXCEPTION = 6, ORT_NOT_IMPLEMENTED = 9 };

enum ONNXTensorElementDataType {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED = 0,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16 = 4,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16 = 5,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL = 9,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 = 10,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE = 11,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32 = 12,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64 = 13,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 = 16
};

enum OrtCustomOpInputOutputCharacteristic { INPUT_OUTPUT_REQUIRED = 0, INPUT_OUTPUT_OPTIONAL = 1, INPUT_OUTPUT_VARIADIC = 2 };

enum OrtMemType { OrtMemTypeDefault = 0 };

enum OrtAllocatorType { OrtDeviceAllocator = 0 };

enum OrtOpAttrType { ORT_OP_ATTR_INT = 1, ORT_OP_ATTR_INTS = 2, ORT_OP_ATTR_FLOAT = 3, ORT_OP_ATTR_STRING = 5 };

struct OrtStatus;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;
struct OrtCustomOpDomain;
struct OrtSessionOptions;
struct OrtMemoryInfo;
struct OrtLogger;
struct OrtOp;
struct OrtOpAttr;

// A table of function pointers; `ort_abi` below says which slot is what.
struct OrtApi {
  void (*slots[275])();
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version);
  const char* (*GetVersionString)();
};

// Fields up to API 17. A runtime reads later fields only from ops that state a later version.
struct OrtCustomOp {
  std::uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp*, std::size_t);
  std::size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp*, std::size_t);
  std::size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp*, std::size_t);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp*, std::size_t);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp*, std::size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
};

// The fields of API 18: which outputs may be written where an input lies that nobody else reads (and that has the same
// size), and which must be.
struct OrtCustomOp18 : OrtCustomOp {
  std::size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  std::size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};

}  // extern "C"

namespace ort_abi {

// The version asked of GetApi and stated by every op: the oldest with KernelContext_ParallelFor and shape inference.
constexpr std::uint32_t kApiVersion = 17;

// One function of the table: its index and its signature.
template <std::size_t Index, class Signature>
struct Slot;

template <std::size_t Index, class Result, class... Args>
struct Slot<Index, Result(Args...)> {
  static constexpr std::size_t index = Index;
  static constexpr std::size_t arity = sizeof...(Args);
  using Function = Result (*)(Args...);

  static Result call(const OrtApi& api, Args... args) {
    return reinterpret_cast<Function>(api.slots[Index])(args...);
  }
};

using Status = OrtStatus*;  // null is success; everything else is owned by the caller

using CreateStatus = Slot<0, Status(OrtErrorCode, const char*)>;
using GetErrorMessage = Slot<2, const char*(const OrtStatus*)>;
using CreateCustomOpDomain = Slot<26, Status(const char*, OrtCustomOpDomain**)>;
using CustomOpDomain_Add = Slot<27, Status(OrtCustomOpDomain*, const OrtCustomOp*)>;
using AddCustomOpDomain = Slot<28, Status(OrtSessionOptions*, OrtCustomOpDomain*)>;
using CreateTensorWithDataAsOrtValue =
    Slot<49, Status(const OrtMemoryInfo*, void*, std::size_t, const std::int64_t*, std::size_t,
                    ONNXTensorElementDataType, OrtValue**)>;
using GetTensorMutableData = Slot<51, Status(OrtValue*, void**)>;
using GetDimensionsCount = Slot<61, Status(const OrtTensorTypeAndShapeInfo*, std::size_t*)>;
using GetDimensions = Slot<62, Status(const OrtTensorTypeAndShapeInfo*, std::int64_t*, std::size_t)>;
using GetSymbolicDimensions = Slot<63, Status(const OrtTensorTypeAndShapeInfo*, const char**, std::size_t)>;
using GetTensorElementType = Slot<60, Status(const OrtTensorTypeAndShapeInfo*, ONNXTensorElementDataType*)>;
using GetTensorTypeAndShape = Slot<65, Status(const OrtValue*, OrtTensorTypeAndShapeInfo**)>;
using CreateCpuMemoryInfo = Slot<69, Status(OrtAllocatorType, OrtMemType, OrtMemoryInfo**)>;
using KernelInfoGetAttribute_float = Slot<85, Status(const OrtKernelInfo*, const char*, float*)>;
using KernelInfoGetAttribute_int64 = Slot<86, Status(const OrtKernelInfo*, const char*, std::int64_t*)>;
using KernelInfoGetAttribute_string = Slot<87, Status(const OrtKernelInfo*, const char*, char*, std::size_t*)>;
using KernelContext_GetInput = Slot<90, Status(const OrtKernelContext*, std::size_t, const OrtValue**)>;
using KernelContext_GetOutput =
    Slot<91, Status(OrtKernelContext*, std::size_t, const std::int64_t*, std::size_t, OrtValue**)>;
using ReleaseStatus = Slot<93, void(OrtStatus*)>;
using ReleaseMemoryInfo = Slot<94, void(OrtMemoryInfo*)>;
using ReleaseValue = Slot<96, void(OrtValue*)>;
using ReleaseTensorTypeAndShapeInfo = Slot<99, void(OrtTensorTypeAndShapeInfo*)>;
using KernelInfoGetAttributeArray_int64 =
    Slot<163, Status(const OrtKernelInfo*, const char*, std::int64_t*, std::size_t*)>;
using CreateOpAttr = Slot<211, Status(const char*, const void*, int, OrtOpAttrType, OrtOpAttr**)>;
using ReleaseOpAttr = Slot<212, void(OrtOpAttr*)>;
using CreateOp = Slot<213, Status(const OrtKernelInfo*, const char*, const char*, int, const char**,
                                  const ONNXTensorElementDataType*, int, const OrtOpAttr* const*, int, int, int,
                                  OrtOp**)>;
using InvokeOp = Slot<214, Status(const OrtKernelContext*, const OrtOp*, const OrtValue* const*, int, OrtValue* const*,
                                  int)>;
using ReleaseOp = Slot<215, void(OrtOp*)>;
using CopyKernelInfo = Slot<217, Status(const OrtKernelInfo*, OrtKernelInfo**)>;
using ReleaseKernelInfo = Slot<218, void(OrtKernelInfo*)>;
using KernelInfo_GetInputCount = Slot<230, Status(const OrtKernelInfo*, std::size_t*)>;
using KernelInfo_GetOutputCount = Slot<231, Status(const OrtKernelInfo*, std::size_t*)>;
using KernelInfo_GetInputName = Slot<232, Status(const OrtKernelInfo*, std::size_t, char*, std::size_t*)>;
using KernelInfo_GetOutputName = Slot<233, Status(const OrtKernelInfo*, std::size_t, char*, std::size_t*)>;
using KernelInfo_GetNodeName = Slot<244, Status(const OrtKernelInfo*, char*, std::size_t*)>;
using KernelInfo_GetLogger = Slot<245, Status(const OrtKernelInfo*, const OrtLogger**)>;
using KernelInfoGetConstantInput_tensor =
    Slot<249, Status(const OrtKernelInfo*, std::size_t, int*, const OrtValue**)>;
using ShapeInferContext_GetInputTypeShape =
    Slot<268, Status(const OrtShapeInferContext*, std::size_t, OrtTensorTypeAndShapeInfo**)>;
using ShapeInferContext_SetOutputTypeShape =
    Slot<270, Status(const OrtShapeInferContext*, std::size_t, const OrtTensorTypeAndShapeInfo*)>;
using KernelContext_ParallelFor =
    Slot<274, Status(const OrtKernelContext*, void (*)(void*, std::size_t), std::size_t, std::size_t, void*)>;

}  // namespace ort_abi
