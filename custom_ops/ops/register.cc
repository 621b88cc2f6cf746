// The library's only export: the list of its ops, and what the runtime must offer.

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "calibration_ops.h"
#include "custom_op.h"
#include "dequantize_ops.h"
#include "isa.h"
#include "observe_op.h"
#include "quantize_ops.h"
#include "search_n_ops.h"

namespace ort_quant {
namespace {

// A domain with its ops. The runtime keeps pointers to both for as long as any session lives, so they live forever.
struct Domain {
  OrtCustomOpDomain* handle = nullptr;
  std::vector<std::unique_ptr<CustomOp>> ops;
};

template <class... Kernels>
Domain make_domain(const OrtApi& api, const KernelTable& kernels, const char* name) {
  Domain domain;
  check(api, ort_abi::CreateCustomOpDomain::call(api, name, &domain.handle));
  (domain.ops.push_back(std::make_unique<CustomOpOf<Kernels>>(api, kernels)), ...);
  for (const auto& op : domain.ops) check(api, ort_abi::CustomOpDomain_Add::call(api, domain.handle, op.get()));
  return domain;
}

// Overloads of one name differ in their input type.
std::vector<Domain> make_domains(const OrtApi& api, const KernelTable& kernels) {
  std::vector<Domain> domains;
  domains.push_back(make_domain<                                               //
      CalibrationOp<IfmrMethod, float>, CalibrationOp<IfmrMethod, Half>,       //
      CalibrationOp<HfmgMethod, float>, CalibrationOp<HfmgMethod, Half>,       //
      SearchN<float, false>, SearchN<Half, false>,                             //
      SearchN<float, true>, SearchN<Half, true>,                               //
      DmqBalancer<float>, DmqBalancer<Half>,                                   //
      AscendQuant<float, float>, AscendQuant<Half, Half>,                      //
      AscendDequant<float, float>, AscendDequant<Half, Half>,                  //
      AscendAntiQuant<float, float>, AscendAntiQuant<Half, Half>,              //
      Quant<float>, Quant<Half>,                                               //
      Dequant<float>, Dequant<Half>>(api, kernels, "amct.customop"));
  domains.push_back(make_domain<AscendQuant<Half, float>, AscendDequant<float, Half>, AscendAntiQuant<float, Half>>(
      api, kernels, "amct.customop.extfp16"));
  domains.push_back(make_domain<AscendQuant<float, std::int8_t>, AscendQuant<Half, std::int8_t>>(
      api, kernels, "amct.customop.extint8"));
  domains.push_back(make_domain<Observe<float>, Observe<Half>>(api, kernels, "ort_quant"));
  return domains;
}

// One set per runtime in the process and instruction set chosen.
const std::vector<Domain>& domains_of(const OrtApi& api, const KernelTable& kernels) {
  static std::mutex mutex;
  static auto& all = *new std::map<std::pair<const OrtApi*, const KernelTable*>, std::vector<Domain>>();
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = all.find({&api, &kernels});
  if (found == all.end()) found = all.emplace(std::make_pair(&api, &kernels), make_domains(api, kernels)).first;
  return found->second;
}

// Called outside the try block, so it allocates nothing that could throw.
OrtStatus* refuse_old_runtime(const OrtApiBase& base) noexcept {
  const OrtApi* oldest = base.GetApi(1);
  if (oldest == nullptr) return nullptr;  // no API at all: not an ONNX Runtime
  char text[256];
  std::snprintf(text, sizeof text,
                "ort-quant-plugin %s needs ONNX Runtime 1.17 or newer; this runtime is %s. Upgrade onnxruntime.",
                ORT_QUANT_VERSION, base.GetVersionString());
  return ort_abi::CreateStatus::call(*oldest, ORT_FAIL, text);
}

}  // namespace
}  // namespace ort_quant

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  using namespace ort_quant;
  const OrtApi* api = base->GetApi(ort_abi::kApiVersion);
  if (api == nullptr) return refuse_old_runtime(*base);
  try {
    const KernelTable& kernels = select_kernels(std::getenv("ORT_QUANT_ISA"));
    for (const Domain& domain : domains_of(*api, kernels)) {
      check(*api, ort_abi::AddCustomOpDomain::call(*api, options, domain.handle));
    }
    return nullptr;
  } catch (const std::exception& error) {
    return ort_abi::CreateStatus::call(*api, ORT_FAIL, error.what());
  } catch (...) {
    return ort_abi::CreateStatus::call(*api, ORT_FAIL, "ort-quant-plugin: unknown error");
  }
}
