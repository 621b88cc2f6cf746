#include "qconv_layer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "finish.h"

namespace ort_quant {
namespace {

constexpr std::size_t kMostPointers = 2048;      // of a block, 16 KiB
constexpr std::size_t kMostPassTaps = 128;       // room for 16 rows
constexpr std::size_t kMostBlockRows = 1024;
constexpr std::size_t kGatheredBytes = 16384;    // of a block
constexpr std::size_t kMostGatheredRow = 1024;   // room for 16 rows
constexpr std::size_t kCacheBudget = 24 * 1024;  // what of a block should stay in the first-level cache
constexpr std::size_t kLeastTiles = 4;           // of a block, so that a panel's weights are fetched for as many
constexpr double kTaskProducts = 1 << 20;        // worth waking a thread
constexpr double kMostTasks = 16;

constexpr std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }
constexpr std::size_t whole_steps(std::size_t bytes) { return divide_up(bytes, kDepthStep) * kDepthStep; }

// The code of a float32 product, without saturation to a byte.
float unbounded_code(float product, std::int32_t shift) { return std::nearbyint(product) + static_cast<float>(shift); }

std::optional<CodesEnd> codes_end(const Epilogue& epilogue, const OutputSpec& outputs, Span<const float> deq) {
  const bool finite = std::all_of(deq.begin(), deq.end(), [](float value) { return std::isfinite(value); });
  const std::optional<ByteOutput> bytes = byte_output(epilogue, outputs, finite);
  if (!bytes) return std::nullopt;
  const float scale = bytes->quantizer.scale;
  const std::int32_t shift = bytes->quantizer.offset + 128;
  CodesEnd end{scale, bytes->lowest * scale, bytes->highest * scale, true, shift, nullptr, 0};
  for (const float factor : deq) {
    end.saturates = end.saturates && std::fabs(0x1p31f * factor) * scale < 0x1p31f;
  }
  end.saturates = end.saturates && unbounded_code(end.low, shift) <= 0.0f && unbounded_code(end.high, shift) >= 255.0f;
  // Rounded products must fit into int32, at the top: below, the conversion gives the least integer by itself.
  end.high = std::min(end.high, static_cast<float>(255 - shift));
  return end;
}

bool packs_lines(const ConvShape& shape) {
  const std::size_t line_bytes = shape.kernel[2] * shape.channels_in;
  const std::size_t lines = shape.kernel[0] * shape.kernel[1];
  return !shape.transposed && shape.group == 1 && shape.dilations[2] == 1 && shape.channels_in < kDepthStep &&
         line_bytes >= kDepthStep && lines <= kMostPassTaps && lines * line_bytes <= kMostGatheredRow;
}

// The same weights [M, C, d, h, w] as [M, w·C, d, h].
std::vector<std::int8_t> line_weights(const ConvShape& shape, Span<const std::int8_t> weights) {
  const std::size_t lines = shape.kernel[0] * shape.kernel[1];
  const std::size_t columns = shape.kernel[2];
  std::vector<std::int8_t> turned(weights.size);
  auto source = weights.begin();
  for (std::size_t m = 0; m < shape.channels_out; ++m) {
    std::int8_t* filter = turned.data() + m * shape.channels_in * lines * columns;
    for (std::size_t c = 0; c < shape.channels_in; ++c) {
      for (std::size_t line = 0; line < lines; ++line) {
        for (std::size_t w = 0; w < columns; ++w) filter[(w * shape.channels_in + c) * lines + line] = *source++;
      }
    }
  }
  return turned;
}

PackedWeights pack(const ConvShape& shape, Span<const std::int8_t> weights, Span<const float> deq,
                   Span<const std::int32_t> bias, std::int32_t zero, const QuantizedKernels& kernels) {
  if (!packs_lines(shape)) return PackedWeights(shape, weights, deq, bias, zero, kernels);
  ConvShape turned = shape;
  turned.channels_in *= shape.kernel[2];
  turned.kernel[2] = 1;
  const std::vector<std::int8_t> values = line_weights(shape, weights);
  return PackedWeights(turned, {values.data(), values.size()}, deq, bias, zero, kernels);
}

bool is_value(const Operand& operand, std::size_t index) {
  return operand.kind == Operand::Kind::kValue && operand.index == index;
}

std::optional<ResultsEnd> results_end(const Epilogue& epilogue, const OutputSpec& outputs) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (outputs.y2 || (outputs.y_float && outputs.float_layout != FloatLayout::kChannelsLast)) return std::nullopt;
  ResultsEnd end{{-kInfinity, -kInfinity}, {kInfinity, kInfinity}, true, outputs.y.value_or(Quantizer{1.0f, 0}),
                 kMaxResiduals,            nullptr,                nullptr,
                 nullptr,                  0};
  bool clipped[2] = {false, false};
  for (std::size_t i = 0; i < epilogue.steps().size(); ++i) {
    const Step& step = epilogue.steps()[i];
    const std::size_t side = end.residual_index < kMaxResiduals ? 1 : 0;
    if (step.op == StepOp::kAdd && side == 0) {
      const Operand& other = is_value(step.a, i) ? step.b : step.a;
      if (other.kind != Operand::Kind::kResidual || !(is_value(step.a, i) || is_value(step.b, i))) return std::nullopt;
      end.residual_index = other.index;
    } else if ((step.op == StepOp::kRelu || step.op == StepOp::kClip) && is_value(step.a, i) && !clipped[side]) {
      clipped[side] = true;
      end.low[side] = step.op == StepOp::kRelu ? 0.0f : step.low;
      if (step.op == StepOp::kClip) end.high[side] = step.high;
    } else {
      return std::nullopt;
    }
  }
  end.bounded_below_only = end.low[0] == -kInfinity && end.high[0] == kInfinity && end.high[1] == kInfinity;
  return end;
}

// What all tasks of a phase share. The results do not depend on how the work is cut up.
struct PhaseRun {
  PhaseRun(const ConvLayer& layer, const Phase& phase, const ConvGeometry& geometry, const std::uint8_t* x,
           const FinishProgram& program, const OutputTensors& outputs);

  const ConvLayer& layer;
  const Phase& phase;
  const FinishProgram& program;
  const OutputTensors& outputs;
  Indirection indirection;
  std::size_t rows;
  std::size_t taps;
  std::size_t pass_taps;   // of one pass over the depth; nearly always all
  std::size_t pitch;       // of gathered rows
  std::size_t block_rows;
  std::size_t row_tasks;
  std::size_t panel_tasks;
};

std::size_t taps_of_pass(const PackedWeights& packed, std::size_t taps) {
  if (!packed.gathered) return std::min(taps, kMostPassTaps);
  const std::size_t most = kMostGatheredRow / packed.tap_bytes;  // whole steps, as it is a multiple of 4
  return std::min({taps, most / kDepthStep * kDepthStep, kMostPassTaps});
}

std::size_t rows_of_block(const PhaseRun& run) {
  const ConvLayer& layer = run.layer;
  const std::size_t tile_rows = layer.packed.tile_rows;
  if (run.taps > run.pass_taps) return tile_rows;
  const Dims& strides = layer.shape.strides;
  const std::size_t new_pixels = std::min(run.taps, strides[0] * strides[1] * strides[2]);
  // Floats that are only written would push out what is read; those of a residual are fetched ahead.
  const bool floats = run.outputs.y_float != nullptr && run.outputs.residuals[0] == nullptr;
  const std::size_t value_bytes = floats ? 1 + sizeof(float) : 1;
  const std::size_t row_bytes = new_pixels * layer.shape.channels_in + layer.shape.channels_out * value_bytes;
  std::size_t most = std::min(kMostBlockRows, kMostPointers / std::max<std::size_t>(1, run.pass_taps));
  if (layer.packed.gathered) most = std::min(most, kGatheredBytes / std::max(run.pitch, kDepthStep));
  if (layer.lines) most = std::min(most, kGatheredBytes / (run.taps * layer.packed.group_in));
  const std::size_t wanted = std::max(kCacheBudget / row_bytes, kLeastTiles * tile_rows);
  return std::min(wanted, most) / tile_rows * tile_rows;
}

PhaseRun::PhaseRun(const ConvLayer& layer, const Phase& phase, const ConvGeometry& geometry, const std::uint8_t* x,
                   const FinishProgram& program, const OutputTensors& outputs)
    : layer(layer),
      phase(phase),
      program(program),
      outputs(outputs),
      indirection(phase, x, layer.shape.channels_in, layer.padding.data()),
      rows(geometry.batch * phase.positions()),
      taps(layer.lines ? layer.packed.taps : phase.taps()),
      pass_taps(taps_of_pass(layer.packed, taps)),
      pitch(whole_steps(pass_taps * layer.packed.tap_bytes)),
      block_rows(rows_of_block(*this)) {
  const PackedWeights& packed = layer.packed;
  const double products = static_cast<double>(rows) * static_cast<double>(layer.shape.channels_out) *
                          static_cast<double>(taps * packed.group_in + 64);
  const auto tasks = static_cast<std::size_t>(std::clamp(products / kTaskProducts, 1.0, kMostTasks));
  row_tasks = std::clamp<std::size_t>(rows / (kLeastTiles * packed.tile_rows), 1, tasks);
  panel_tasks = std::min(divide_up(tasks, row_tasks), packed.panels.size());
}

// Some rows of some panels, on one thread.
class ConvTask {
 public:
  explicit ConvTask(const PhaseRun& run);

  void run(std::size_t first_row, std::size_t end_row, std::size_t first_panel, std::size_t end_panel);

 private:
  // What is fetched while a panel of a block is computed: its share of the floats of the next block, or, null, the
  // weights of the next panel.
  struct Fetch {
    const std::int8_t* floats;
    std::size_t tile_bytes;
    std::size_t step_bytes;
  };

  void prepare(const RowBlock& block, std::size_t first_tap);
  void gather(const RowBlock& block, const TapRange& taps);
  Fetch fetch_behind(const RowBlock& block, std::size_t end_row, std::size_t panels) const;
  Fetch fetch_weights(const RowBlock& block) const;
  void run_panel(const RowBlock& block, const Panel& panel);
  void run_tiles(const RowBlock& block, const Panel& panel);
  void run_pass(const Panel& panel, std::size_t first_tap);
  const std::int32_t* start_of(const Panel& panel);

  const PhaseRun& run_;
  const ConvLayer& layer_;
  const PackedWeights& packed_;
  const bool selected_taps_;  // the phase sees only some of the taps
  const bool on_registers_;   // so is the epilogue, of many tiles at once
  TileWork work_{};
  const std::uint8_t* pointers_[kMostPointers];
  std::size_t pixels_[kMostBlockRows];
  std::size_t tap_weights_[kMostPassTaps];
  alignas(64) std::int32_t start_[kMaxTileWidth * kLanes];
  alignas(64) std::int32_t sums_[kMaxTileValues];
  alignas(64) float floats_[kMaxTileValues];
  std::uint8_t gathered_[kGatheredBytes];
};

ConvTask::ConvTask(const PhaseRun& run)
    : run_(run),
      layer_(run.layer),
      packed_(run.layer.packed),
      selected_taps_(run.taps != run.layer.packed.taps),
      on_registers_((layer_.codes || layer_.results) && run.taps == run.pass_taps) {
  if (packed_.gathered) std::fill(std::begin(gathered_), std::end(gathered_), std::uint8_t{0});
  work_.tap_weights = tap_weights_;
  work_.sums = sums_;
  work_.floats = floats_;
  if (layer_.codes) {
    work_.codes = *layer_.codes;
    work_.codes.y = run.outputs.y;
    work_.codes.channels = run.outputs.channels;
  }
  if (layer_.results) {
    work_.results = *layer_.results;
    const std::size_t residual = work_.results.residual_index;
    if (residual < kMaxResiduals) work_.results.residual = run.outputs.residuals[residual];
    work_.results.y_float = run.outputs.y_float;
    work_.results.y = run.outputs.y;
    work_.results.channels = run.outputs.channels;
  }
}

void ConvTask::run(std::size_t first_row, std::size_t end_row, std::size_t first_panel, std::size_t end_panel) {
  const std::size_t blocks = divide_up(end_row - first_row, run_.block_rows);
  const std::size_t tiles = divide_up(end_row - first_row, packed_.tile_rows);
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::size_t begin = first_row + tiles * i / blocks * packed_.tile_rows;
    const std::size_t rows = std::min(first_row + tiles * (i + 1) / blocks * packed_.tile_rows, end_row) - begin;
    const RowBlock block{begin, rows, divide_up(rows, divide_up(rows, packed_.tile_rows))};
    run_.indirection.output_pixels(block, pixels_);
    if (run_.taps == run_.pass_taps) prepare(block, 0);
    // While the first block is computed weights are fetched, which then stay in the cache.
    const std::size_t panels = end_panel - first_panel;
    const Fetch fetch = i == 0 ? fetch_weights(block) : fetch_behind(block, end_row, panels);
    work_.next_share = fetch.tile_bytes;
    work_.next_step = fetch.step_bytes;
    const std::size_t floats_of_panel = fetch.tile_bytes * divide_up(block.rows, block.tile_rows);
    for (std::size_t p = 0; p < panels; ++p) {
      const Panel* panel = &packed_.panels[first_panel + p];
      work_.next = nullptr;
      if (fetch.floats != nullptr) {
        work_.next = fetch.floats + p * floats_of_panel;
      } else if (panel != &packed_.panels.back()) {
        work_.next = packed_.data.data() + panel[1].weights;
      }
      run_panel(block, *panel);
    }
  }
}

// Fills in the pointers of a pass, for all tiles, and where its weights are.
void ConvTask::prepare(const RowBlock& block, std::size_t first_tap) {
  const TapRange taps{first_tap, std::min(run_.pass_taps, run_.taps - first_tap)};
  if (packed_.gathered && !layer_.shape.transposed) {
    tap_weights_[0] = first_tap * packed_.tap_bytes / kDepthStep;
  } else {
    for (std::size_t tap = 0; tap < taps.count; ++tap) {
      tap_weights_[tap] = packed_.steps_of_tap * (layer_.lines ? tap : run_.phase.tap(first_tap + tap));
    }
  }
  if (layer_.lines) {
    run_.indirection.point_lines(block, pointers_, gathered_);
  } else if (packed_.gathered) {
    gather(block, taps);
  } else if (!run_.indirection.pointwise()) {
    run_.indirection.point(block, taps, pointers_);
  }
}

void ConvTask::gather(const RowBlock& block, const TapRange& taps) {
  run_.indirection.gather(block, taps, packed_.tap_bytes, run_.pitch, gathered_);
  const std::size_t pointed_taps = layer_.shape.transposed ? taps.count : 1;
  for (std::size_t row = 0; row < block.rows; row += block.tile_rows) {
    const std::size_t rows = std::min(block.tile_rows, block.rows - row);
    const std::uint8_t** pointers = pointers_ + row * pointed_taps;
    for (std::size_t tap = 0; tap < pointed_taps; ++tap) {
      const std::uint8_t* first = gathered_ + row * run_.pitch + tap * kDepthStep;
      for (std::size_t r = 0; r < rows; ++r) *pointers++ = first + r * run_.pitch;
    }
  }
}

// What comes next is fetched evenly over all tiles: it comes from far away as slowly as that.
ConvTask::Fetch ConvTask::fetch_behind(const RowBlock& block, std::size_t end_row, std::size_t panels) const {
  const std::size_t residual = layer_.results ? layer_.results->residual_index : kMaxResiduals;
  const float* floats = residual < kMaxResiduals ? run_.outputs.residuals[residual] : run_.outputs.y_float;
  if (!layer_.results || floats == nullptr || layer_.shape.transposed || packed_.gathered) return fetch_weights(block);
  const std::size_t first = block.first_row + block.rows;
  const std::size_t bytes = std::min(block.rows, end_row - first) * run_.outputs.channels * sizeof(float);
  const std::size_t share = bytes / (divide_up(block.rows, block.tile_rows) * panels);
  return {reinterpret_cast<const std::int8_t*>(floats + first * run_.outputs.channels), share,
          divide_up(share * kDepthStep, run_.taps * packed_.depth)};
}

ConvTask::Fetch ConvTask::fetch_weights(const RowBlock& block) const {
  if (packed_.panels.size() == 1) return {nullptr, 0, 0};
  const std::size_t tiles = divide_up(block.rows, block.tile_rows);
  const std::size_t bytes = packed_.panels[1].weights - packed_.panels[0].weights;  // nearly all have as many
  return {nullptr, bytes / tiles, divide_up(packed_.panels[0].width * kVectorBytes, tiles)};
}

void ConvTask::run_panel(const RowBlock& block, const Panel& panel) {
  work_.channel_offset = packed_.gathered ? 0 : panel.first_in;
  work_.weights = packed_.data.data() + panel.weights;
  work_.deq = packed_.deq.data() + panel.column;
  const std::int32_t* start = start_of(panel);
  for (std::size_t row = 0; row < block.rows; row += work_.tiles * work_.place.rows) {
    const std::size_t rows = std::min(block.tile_rows, block.rows - row);
    work_.tiles = on_registers_ && row == 0 ? std::max<std::size_t>(block.rows / block.tile_rows, 1) : 1;
    work_.start = start;
    work_.start_stride = 0;
    work_.place = {pixels_ + row, rows, panel.first_out, panel.channels};
    run_tiles(block, panel);
    if (!layer_.codes && !layer_.results) {
      layer_.kernels.finish_tile(run_.program, run_.outputs, work_.place, floats_, panel.width * kLanes);
    }
  }
}

void ConvTask::run_tiles(const RowBlock& block, const Panel& panel) {
  const std::size_t row = static_cast<std::size_t>(work_.place.pixels - pixels_);
  const TileEnd last = layer_.codes ? TileEnd::kCodes : layer_.results ? TileEnd::kResults : TileEnd::kFloats;
  if (run_.taps == run_.pass_taps) {
    const std::size_t pointed_taps = packed_.gathered && !layer_.shape.transposed ? 1 : run_.taps;
    work_.rows = run_.indirection.pointwise() && !packed_.gathered ? nullptr : pointers_ + row * pointed_taps;
    work_.first_row = run_.indirection.pixel(block.first_row + row);
    work_.row_bytes = run_.indirection.pixel_bytes();
    work_.end = last;
    return run_pass(panel, 0);
  }
  for (std::size_t tap = 0; tap < run_.taps; tap += run_.pass_taps) {
    prepare(block, tap);
    work_.rows = pointers_;
    work_.end = tap + run_.pass_taps < run_.taps ? TileEnd::kSums : last;
    run_pass(panel, tap);
    work_.start = sums_;
    work_.start_stride = panel.width * kLanes;
  }
}

void ConvTask::run_pass(const Panel& panel, std::size_t first_tap) {
  const std::size_t taps = std::min(run_.pass_taps, run_.taps - first_tap);
  if (!packed_.gathered) {
    work_.taps = taps;
    work_.depth = packed_.depth;
    work_.tail = packed_.tail;
  } else if (layer_.shape.transposed) {
    work_.taps = taps;
    work_.depth = kDepthStep;
  } else {
    work_.taps = 1;
    work_.depth = whole_steps(taps * packed_.tap_bytes);
  }
  layer_.kernels.tiles[panel.width - 1][work_.place.rows - 1](work_);
}

const std::int32_t* ConvTask::start_of(const Panel& panel) {
  if (!selected_taps_) return packed_.start.data() + panel.column;
  const std::size_t columns = packed_.bias.size();
  for (std::size_t lane = 0; lane < panel.width * kLanes; ++lane) {
    auto start = static_cast<std::uint32_t>(packed_.bias[panel.column + lane]);
    for (std::size_t tap = 0; tap < run_.taps; ++tap) {
      start -= static_cast<std::uint32_t>(packed_.tap_sums[run_.phase.tap(tap) * columns + panel.column + lane]);
    }
    start_[lane] = static_cast<std::int32_t>(start);
  }
  return start_;
}

void run_phase(const PhaseRun& run, const ForEach& for_each) {
  if (run.rows == 0) return;
  for_each(run.row_tasks * run.panel_tasks, [&run](std::size_t task) {
    const std::size_t r = task % run.row_tasks;
    const std::size_t p = task / run.row_tasks;
    const std::size_t panels = run.layer.packed.panels.size();
    ConvTask(run).run(run.rows * r / run.row_tasks, run.rows * (r + 1) / run.row_tasks, panels * p / run.panel_tasks,
                      panels * (p + 1) / run.panel_tasks);
  });
}

}  // namespace

ConvLayer::ConvLayer(const ConvShape& shape, Span<const std::int8_t> weights, Span<const float> deq,
                     Span<const std::int32_t> bias, std::int32_t x_offset, const Epilogue& epilogue,
                     const OutputSpec& outputs, const KernelTable& table)
    : shape(shape),
      kernels(*table.quantized),
      lines(packs_lines(shape)),
      packed(pack(shape, weights, deq, bias, kernels.signed_activations ? x_offset : x_offset + 128, kernels)),
      padding(shape.channels_in * (lines ? shape.kernel[2] : 1), static_cast<std::uint8_t>(x_offset + 128)),
      codes(codes_end(epilogue, outputs, deq)),
      results(results_end(epilogue, outputs)) {}

void ConvLayer::run(const ConvGeometry& geometry, const std::uint8_t* x, const FinishProgram& program,
                    const OutputTensors& outputs, const ForEach& for_each) const {
  for (std::size_t i = 0; i < phase_count(shape); ++i) {
    const Phase phase = phase_of(shape, geometry, i);
    run_phase(PhaseRun(*this, phase, geometry, x, program, outputs), for_each);
  }
}

}  // namespace ort_quant
