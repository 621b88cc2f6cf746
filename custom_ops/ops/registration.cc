#include "registration.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "isa.h"

namespace ort_quant {
namespace {

const std::vector<Domain>& domains_of(const OrtApi& api, const KernelTable& kernels, MakeDomains make) {
  static std::mutex mutex;
  static auto& all = *new std::map<std::pair<const OrtApi*, const KernelTable*>, std::vector<Domain>>();
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = all.find({&api, &kernels});
  if (found == all.end()) found = all.emplace(std::make_pair(&api, &kernels), make(api, kernels)).first;
  return found->second;
}

// Allocates nothing that could throw.
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

OrtStatus* register_domains(OrtSessionOptions* options, const OrtApiBase& base, MakeDomains make) noexcept {
  const OrtApi* api = base.GetApi(ort_abi::kApiVersion);
  if (api == nullptr) return refuse_old_runtime(base);
  try {
    const KernelTable& kernels = select_kernels(std::getenv("ORT_QUANT_ISA"));
    for (const Domain& domain : domains_of(*api, kernels, make)) {
      check(*api, ort_abi::AddCustomOpDomain::call(*api, options, domain.handle));
    }
    return nullptr;
  } catch (const std::exception& error) {
    return ort_abi::CreateStatus::call(*api, ORT_FAIL, error.what());
  } catch (...) {
    return ort_abi::CreateStatus::call(*api, ORT_FAIL, "ort-quant-plugin: unknown error");
  }
}

}  // namespace ort_quant
