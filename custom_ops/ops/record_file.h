// Writing activation factors into AMCT's record file: text inserted at a layer's entry, as the calibration ops do it.
//
// Safe when several nodes, sessions and processes finish at once: the file is locked while it is read and replaced, and
// readers see the old or the new file, never a part.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "range.h"

namespace ort_quant {

// The lines of one layer's entry, in AMCT's order.
struct ActivationRecord {
  std::string suffix = "d";  // scale_d, offset_d; "h" for a recurrent layer's initial state
  Range range{};
  int bits = 8;
  std::string op_data_type;         // FLOAT32 or FLOAT16
  std::string precision_mode;       // written unless DEFAULT
};

// Writes `record` into the entries of `layers`, replacing what an earlier calibration wrote there. Throws OpError if the
// file cannot be read or written, or an entry is missing; the file is unchanged then.
void write_activation_record(const std::string& path, const std::vector<std::string>& layers,
                             const ActivationRecord& record);

// The text of the file with the record inserted; OpError names `path`. (Separate for tests.)
std::string insert_activation_record(const std::string& text, const std::string& layer, const ActivationRecord& record,
                                     const std::string& path);

}  // namespace ort_quant
