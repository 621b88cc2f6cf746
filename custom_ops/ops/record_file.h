// Writing calibration results into AMCT's record file: text inserted at a layer's entry, as the calibration ops do it.
//
// Safe when several nodes, sessions and processes finish at once: the file is locked while it is read and replaced, and
// readers see the old or the new file, never a part.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "range.h"

namespace ort_quant {

// Fields to put at the head of a layer's entry.
struct RecordFields {
  std::vector<std::string> lines;     // "name: value", in order
  std::vector<std::string> replaced;  // field names whose old lines go
};

struct ActivationRecord {
  std::string suffix = "d";    // scale_d, offset_d; "h" for a recurrent layer's initial state
  Range range{};
  int bits = 8;
  std::string op_data_type;    // FLOAT32 or FLOAT16
  std::string precision_mode;  // written unless DEFAULT
};

// AMCT's lines in AMCT's order.
RecordFields activation_fields(const ActivationRecord& record);

// One line per value of a repeated field.
RecordFields repeated_field(const std::string& name, const std::vector<std::string>& values);

// Writes `fields` into the entries of `layers`, replacing what an earlier calibration wrote there. Throws OpError if the
// file cannot be read or written, or an entry is missing; the file is unchanged then. A layer's entry is the one of
// exactly its name, else of its name without trailing blanks (AMCT's kernels drop those).
void write_record_fields(const std::string& path, const std::vector<std::string>& layers, const RecordFields& fields);

// The text of the file with the fields inserted; OpError names `path`. (Separate for tests.)
std::string insert_record_fields(const std::string& text, const std::string& layer, const RecordFields& fields,
                                 const std::string& path);

}  // namespace ort_quant
