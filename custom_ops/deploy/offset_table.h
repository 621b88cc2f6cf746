// Which int8 tensors of a session are quantized values, and where their zero lies.
//
// A deploy model states the activation's offset at the AscendQuant node only; the int8 layer behind it needs the offset
// too. A kernel knows the names of its tensors, which are unique within a session, but not its neighbours: so a
// quantizer enters its output here under (session, name) for as long as it lives, and a layer looks its input up when
// it is made. The runtime makes the kernels of a session in the order of the model's nodes, producers first.
//
// The session is told by its logger, an object that each session owns: two living sessions never share it, and by the
// time its address can come back, the kernels of the old session have taken their entries away.
#pragma once

#include <optional>
#include <string>

#include "ort.h"

namespace ort_quant {

// An entry in the table, made and taken away with the kernel whose output it describes.
class ProvidedOffset {
 public:
  ProvidedOffset(const KernelInfo& info, int offset);
  ~ProvidedOffset();
  ProvidedOffset(const ProvidedOffset&) = delete;
  ProvidedOffset& operator=(const ProvidedOffset&) = delete;

 private:
  const void* session_;
  std::string tensor_;
  int offset_;
};

// The offset of an input; none if no quantizer has entered the tensor. OpError if quantizers of different offsets have:
// tensors of the same name in two branches of an If.
std::optional<int> find_offset(const KernelInfo& info, std::size_t index);

// The same for an int8 activation, which must have one.
int activation_offset(const KernelInfo& info, std::size_t index);

// Of int8 weights, input 1: 0 for an initializer, else that of the node they come from.
int weight_offset(const KernelInfo& info);

}  // namespace ort_quant
