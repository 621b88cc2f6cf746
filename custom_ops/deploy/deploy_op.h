// What the overrides of standard operators have in common.
#pragma once

#include "custom_op.h"

namespace ort_quant {

// An op of the default domain. K::kStartVersion is an opset version at which the standard operator did not change: the
// runtime's graph optimizations match operators by the versions at which they did, so they leave the node alone, and a
// float node gives the same bits at every optimization level.
template <class K>
struct DeployOpOf : CustomOpOf<K> {
  DeployOpOf(const OrtApi& api, const KernelTable& table) : CustomOpOf<K>(api, table) {
    this->GetStartVersion = [](const OrtCustomOp*) { return K::kStartVersion; };
  }
};

// The description of a node that outlives the creation of its kernel, for attributes that mean something only together
// with the shapes of a run.
class KeptInfo {
 public:
  explicit KeptInfo(const KernelInfo& info) : api_(info.api()) {
    check(api_, ort_abi::CopyKernelInfo::call(api_, info.handle(), &copy_));
  }
  ~KeptInfo() { ort_abi::ReleaseKernelInfo::call(api_, copy_); }
  KeptInfo(const KeptInfo&) = delete;
  KeptInfo& operator=(const KeptInfo&) = delete;

  KernelInfo info() const { return {api_, copy_}; }

 private:
  const OrtApi& api_;
  OrtKernelInfo* copy_ = nullptr;
};

}  // namespace ort_quant
