#include "registration.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "isa.h"

namespace ort_quant {
namespace {

constexpr std::uint32_t kInPlaceVersion = 18;

// "1.31.1" → 31. Asking GetApi for a version that it lacks would print a complaint.
std::uint32_t minor_version(const char* text) {
  const char* point = std::strchr(text, '.');
  return point == nullptr ? 0 : static_cast<std::uint32_t>(std::strtoul(point + 1, nullptr, 10));
}

// Ops that may work in place say so to runtimes that ask.
void offer_in_place(const std::vector<Domain>& domains) {
  for (const Domain& domain : domains) {
    for (const auto& op : domain.ops) {
      if (op->GetMayInplace != nullptr) op->version = kInPlaceVersion;
    }
  }
}

const std::vector<Domain>& domains_of(const OrtApiBase& base, const OrtApi& api, const KernelTable& kernels,
                                      MakeDomains make) {
  static std::mutex mutex;
  static auto& all = *new std::map<std::pair<const OrtApi*, const KernelTable*>, std::vector<Domain>>();
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = all.find({&api, &kernels});
  if (found == all.end()) {
    found = all.emplace(std::make_pair(&api, &kernels), make(api, kernels)).first;
    if (minor_version(base.GetVersionString()) >= kInPlaceVersion) offer_in_place(found->second);
  }
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
    for (const Domain& domain : domains_of(base, *api, kernels, make)) {
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
