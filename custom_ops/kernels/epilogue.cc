#include "epilogue.h"

#include <algorithm>
#include <limits>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace ort_quant {
namespace {

struct Signature {
  const char* name;
  StepOp op;
  std::size_t operands;
  std::size_t literals;
};

constexpr Signature kSignatures[] = {
    {"add", StepOp::kAdd, 2, 0},
    {"sub", StepOp::kSub, 2, 0},
    {"mul", StepOp::kMul, 2, 0},
    {"div", StepOp::kDiv, 2, 0},
    {"clip", StepOp::kClip, 1, 2},
    {"relu", StepOp::kRelu, 1, 0},
    {"leaky_relu", StepOp::kLeakyRelu, 1, 1},
    {"hard_sigmoid", StepOp::kHardSigmoid, 1, 2},
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// One step's text while it is read; knows what to say when it is wrong.
class StepReader {
 public:
  StepReader(std::string text, std::size_t number, std::size_t constant_rows)
      : text_(std::move(text)), number_(number), constant_rows_(constant_rows), words_(words_of(text_)) {}

  Step read() const {
    if (words_.empty()) refuse("is empty");
    for (const Signature& signature : kSignatures) {
      if (words_[0] == signature.name) return read(signature);
    }
    refuse("starts with \"" + words_[0] +
           "\", expected add, sub, mul, div, clip, relu, leaky_relu or hard_sigmoid");
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    throw std::invalid_argument("epilogue step " + std::to_string(number_) + " \"" + text_ + "\" " + problem);
  }

  Step read(const Signature& signature) const {
    const std::size_t expected = signature.operands + signature.literals;
    if (words_.size() != expected + 1) {
      refuse("has " + std::to_string(words_.size() - 1) + " operands, expected " + std::to_string(expected));
    }
    Step step{signature.op, operand(words_[1]), {}, 0.0f, 0.0f};
    if (signature.operands == 2) step.b = operand(words_[2]);
    if (signature.literals >= 1) step.low = literal(words_[2]);
    if (signature.literals == 2) step.high = literal(words_[3]);
    return step;
  }

  Operand operand(const std::string& word) const {
    if (word[0] == 'r') return {Operand::Kind::kResidual, index(word, 1, kMaxResiduals, "residual input"), 0.0f};
    if (word[0] == 'c') {
      return {Operand::Kind::kChannelConstant, index(word, 1, constant_rows_, "channel constant"), 0.0f};
    }
    if (word.find_first_not_of("0123456789") == std::string::npos) {
      return {Operand::Kind::kValue, index(word, 0, number_, "value"), 0.0f};
    }
    return {Operand::Kind::kLiteral, 0, literal(word)};
  }

  std::size_t index(const std::string& word, std::size_t prefix, std::size_t limit, const char* what) const {
    const std::string digits = word.substr(prefix);
    const bool number =
        !digits.empty() && digits.size() < 6 && digits.find_first_not_of("0123456789") == std::string::npos;
    if (!number || std::stoul(digits) >= limit) {
      refuse("names the " + std::string(what) + " \"" + word + "\", which does not exist; there are " +
             std::to_string(limit) + " before it");
    }
    return std::stoul(digits);
  }

  float literal(const std::string& word) const {
    if (word == "inf" || word == "+inf") return std::numeric_limits<float>::infinity();
    if (word == "-inf") return -std::numeric_limits<float>::infinity();
    std::istringstream stream(word);
    stream.imbue(std::locale::classic());
    float value = 0.0f;
    if (!(stream >> value) || stream.peek() != std::istringstream::traits_type::eof()) {
      refuse("has \"" + word + "\" where a float32 number is expected");
    }
    return value;
  }

  std::string text_;
  std::size_t number_;
  std::size_t constant_rows_;
  std::vector<std::string> words_;
};

std::size_t residuals_read(const Operand& operand) {
  return operand.kind == Operand::Kind::kResidual ? operand.index + 1 : 0;
}

}  // namespace

Epilogue Epilogue::parse(const std::string& text, std::vector<float> channel_constants, std::size_t channels) {
  const std::size_t rows = channels == 0 ? 0 : channel_constants.size() / channels;
  Epilogue epilogue;
  epilogue.constants_ = std::move(channel_constants);
  if (words_of(text).empty()) return epilogue;
  const std::vector<std::string> steps = split(text, ';');
  if (steps.size() > kMaxSteps) {
    throw std::invalid_argument("epilogue has " + std::to_string(steps.size()) + " steps, expected at most " +
                                std::to_string(kMaxSteps));
  }
  for (const std::string& step : steps) {
    epilogue.steps_.push_back(StepReader(step, epilogue.steps_.size() + 1, rows).read());
    for (const Operand& operand : {epilogue.steps_.back().a, epilogue.steps_.back().b}) {
      epilogue.residuals_ = std::max(epilogue.residuals_, residuals_read(operand));
    }
  }
  return epilogue;
}

FinishProgram finish_program(const Epilogue& epilogue, const OutputSpec& outputs) {
  constexpr Quantizer kNone{1.0f, 0};
  return {epilogue.steps().data(),        epilogue.steps().size(),        epilogue.channel_constants().data(),
          outputs.y.value_or(kNone),      outputs.y2.value_or(kNone),     outputs.float_layout};
}

}  // namespace ort_quant
