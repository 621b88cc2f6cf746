// Registration against invented runtimes: one that is too old, one that is new enough, one that refuses.

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "check.h"
#include "ort_abi.h"

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);

namespace {
bool out_of_memory = false;
}

// The library's allocations come here too.
void* operator new(std::size_t size) {
  void* memory = out_of_memory ? nullptr : std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using Function = void (*)();

std::string last_status;
int domains_added = 0;
int ops_added = 0;

OrtStatus* create_status(OrtErrorCode, const char* message) {
  out_of_memory = false;
  last_status = message;
  return reinterpret_cast<OrtStatus*>(&last_status);
}

OrtStatus* create_domain(const char*, OrtCustomOpDomain** domain) {
  *domain = reinterpret_cast<OrtCustomOpDomain*>(&domains_added);
  return nullptr;
}

OrtStatus* add_op(OrtCustomOpDomain*, const OrtCustomOp* op) {
  ++ops_added;
  CHECK(op->version == 17, op->version);
  CHECK(op->GetExecutionProviderType(op) == nullptr, "not a CPU op");
  CHECK(std::strlen(op->GetName(op)) > 0);
  for (std::size_t i = 0; i < op->GetInputTypeCount(op); ++i) {
    CHECK(op->GetInputType(op, i) != ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
  }
  return nullptr;
}

OrtStatus* add_domain(OrtSessionOptions*, OrtCustomOpDomain*) {
  ++domains_added;
  return nullptr;
}

OrtApi make_api() {
  OrtApi api{};
  api.slots[ort_abi::CreateStatus::index] = reinterpret_cast<Function>(&create_status);
  api.slots[ort_abi::CreateCustomOpDomain::index] = reinterpret_cast<Function>(&create_domain);
  api.slots[ort_abi::CustomOpDomain_Add::index] = reinterpret_cast<Function>(&add_op);
  api.slots[ort_abi::AddCustomOpDomain::index] = reinterpret_cast<Function>(&add_domain);
  return api;
}

const OrtApi kApi = make_api();

const OrtApi* api_up_to_16(std::uint32_t version) { return version <= 16 ? &kApi : nullptr; }
const OrtApi* api_up_to_17(std::uint32_t version) { return version <= 17 ? &kApi : nullptr; }
const char* version_1_16() { return "1.16.3"; }
const char* version_1_17() { return "1.17.0"; }

void test_too_old() {
  const OrtApiBase base{&api_up_to_16, &version_1_16};
  CHECK(RegisterCustomOps(nullptr, &base) != nullptr, "a runtime without API 17 was accepted");
  CHECK(last_status.find("needs ONNX Runtime 1.17 or newer") != std::string::npos, last_status);
  CHECK(last_status.find("1.16.3") != std::string::npos, last_status);
  CHECK(domains_added == 0);
}

void test_no_exception_leaves_the_library() {
  for (auto* get_api : {&api_up_to_16, &api_up_to_17}) {
    const OrtApiBase base{get_api, &version_1_16};
    try {
      out_of_memory = true;
      const OrtStatus* status = RegisterCustomOps(nullptr, &base);
      out_of_memory = false;
      CHECK(status != nullptr, "no memory, but no status");
    } catch (...) {
      out_of_memory = false;
      CHECK(false, "an exception crossed the C boundary");
    }
  }
  domains_added = ops_added = 0;
}

void test_registration() {
  const OrtApiBase base{&api_up_to_17, &version_1_17};
  CHECK(RegisterCustomOps(nullptr, &base) == nullptr, last_status);
  CHECK(domains_added == 4, domains_added);
  const int ops = ops_added;
  CHECK(ops > 0, ops);
  // A second session shares the domains.
  CHECK(RegisterCustomOps(nullptr, &base) == nullptr, last_status);
  CHECK(domains_added == 8 && ops_added == ops, domains_added, ops_added);
}

void test_unknown_isa() {
  const OrtApiBase base{&api_up_to_17, &version_1_17};
  const char* forced = std::getenv("ORT_QUANT_ISA");
  const std::string before = forced != nullptr ? forced : "";
  ::setenv("ORT_QUANT_ISA", "sse9", 1);
  CHECK(RegisterCustomOps(nullptr, &base) != nullptr, "an unknown instruction set was accepted");
  CHECK(last_status.find("sse9") != std::string::npos && last_status.find("scalar") != std::string::npos, last_status);
  ::setenv("ORT_QUANT_ISA", before.c_str(), 1);
}

}  // namespace

int main() {
  test_too_old();
  test_no_exception_leaves_the_library();
  test_registration();
  test_unknown_isa();
  return check::finish("register_test");
}
