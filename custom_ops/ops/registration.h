// What the libraries' entry points share: domains that live forever, and the answer to a runtime that is too old.
#pragma once

#include <memory>
#include <vector>

#include "custom_op.h"

namespace ort_quant {

// A domain with its ops. The runtime keeps pointers to both for as long as any session lives, so they live forever.
struct Domain {
  OrtCustomOpDomain* handle = nullptr;
  std::vector<std::unique_ptr<CustomOp>> ops;
};

template <template <class> class OpOf, class... Kernels>
Domain make_domain(const OrtApi& api, const KernelTable& kernels, const char* name) {
  Domain domain;
  check(api, ort_abi::CreateCustomOpDomain::call(api, name, &domain.handle));
  (domain.ops.push_back(std::make_unique<OpOf<Kernels>>(api, kernels)), ...);
  for (const auto& op : domain.ops) check(api, ort_abi::CustomOpDomain_Add::call(api, domain.handle, op.get()));
  return domain;
}

using MakeDomains = std::vector<Domain> (*)(const OrtApi& api, const KernelTable& kernels);

// The body of a library's RegisterCustomOps. `make` is called once per runtime in the process and instruction set.
OrtStatus* register_domains(OrtSessionOptions* options, const OrtApiBase& base, MakeDomains make) noexcept;

}  // namespace ort_quant
