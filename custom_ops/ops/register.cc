// The library's only export: the list of its ops, and what the runtime must offer.

#include <vector>

#include "calibration_ops.h"
#include "dequantize_ops.h"
#include "observe_op.h"
#include "qadd_op.h"
#include "qchain_op.h"
#include "qconv_op.h"
#include "qgemm_op.h"
#include "qlayout_op.h"
#include "qpool_op.h"
#include "quantize_ops.h"
#include "registration.h"
#include "search_n_ops.h"

namespace ort_quant {
namespace {

// Overloads of one name differ in their input type.
std::vector<Domain> make_domains(const OrtApi& api, const KernelTable& kernels) {
  std::vector<Domain> domains;
  domains.push_back(make_domain<CustomOpOf,                                   //
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
  domains.push_back(make_domain<CustomOpOf, AscendQuant<Half, float>, AscendDequant<float, Half>,
                                AscendAntiQuant<float, Half>>(api, kernels, "amct.customop.extfp16"));
  domains.push_back(make_domain<CustomOpOf, AscendQuant<float, std::int8_t>, AscendQuant<Half, std::int8_t>>(
      api, kernels, "amct.customop.extint8"));
  domains.push_back(make_domain<CustomOpOf,       //
      Observe<float>, Observe<Half>,               //
      QConv, QConvChain, QConvTranspose,           //
      QGemm, QPool, QAdd,                          //
      QuantizeLayout, DequantizeLayout>(api, kernels, "ort_quant"));
  return domains;
}

}  // namespace
}  // namespace ort_quant

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  return ort_quant::register_domains(options, *base, &ort_quant::make_domains);
}
