#include "qchain.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "aligned.h"

namespace ort_quant {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kTaskProducts = 5 << 20;  // worth waking a thread

constexpr std::size_t whole_lines(std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

// Rows [begin, end) of a map.
struct Rows {
  std::size_t begin = 0;
  std::size_t end = 0;

  std::size_t count() const { return end - begin; }
};

std::size_t height(const Dims& dims) { return dims[1]; }

std::ptrdiff_t first_row_seen(const ConvShape& shape, const ConvGeometry& geometry, std::size_t out_row) {
  return static_cast<std::ptrdiff_t>(out_row * shape.strides[1]) - geometry.pads_begin[1];
}

std::size_t reach(const ConvShape& shape, std::size_t out_rows) {
  return (out_rows - 1) * shape.strides[1] + (shape.kernel[1] - 1) * shape.dilations[1] + 1;
}

// The input rows that output rows see: at least one, even where they see nothing but padding.
Rows rows_seen(const ConvShape& shape, const ConvGeometry& geometry, const Rows& out) {
  const auto in = static_cast<std::ptrdiff_t>(height(geometry.in));
  const std::ptrdiff_t first = first_row_seen(shape, geometry, out.begin);
  const std::ptrdiff_t last = first + static_cast<std::ptrdiff_t>(reach(shape, out.count()));
  const std::ptrdiff_t begin = std::clamp<std::ptrdiff_t>(first, 0, in - 1);
  return {static_cast<std::size_t>(begin), static_cast<std::size_t>(std::clamp(last, begin + 1, in))};
}

// How a run is cut up.
struct Plan {
  Plan(const std::vector<PackedConv>& stages, const std::vector<ConvGeometry>& geometries, std::size_t budget);

  std::size_t row_bytes[kMaxStages] = {};  // of each stage's input; the first one's is that of x
  std::size_t buffers[kMaxStages] = {};    // where each stage's input begins; not the first one's
  std::size_t images = 1;                  // of a strip, where maps are run whole
  std::size_t strip_rows;                  // of the last output
  std::size_t strips;                      // of an image
  std::size_t bytes;                       // of all buffers

 private:
  std::size_t place(const std::vector<PackedConv>& stages, const std::vector<ConvGeometry>& geometries);
};

// As many rows of the last output as are worth waking a thread.
std::size_t rows_of_task(const std::vector<PackedConv>& stages, const std::vector<ConvGeometry>& geometries) {
  std::size_t products = 0;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const ConvShape& shape = stages[i].shape();
    products += geometries[i].out[1] * geometries[i].out[2] * shape.channels_out * shape.kernel[1] * shape.kernel[2] *
                (shape.channels_in / shape.group);
  }
  const std::size_t tasks = std::max<std::size_t>(products / kTaskProducts, 1);
  return (height(geometries.back().out) + tasks - 1) / tasks;
}

Plan::Plan(const std::vector<PackedConv>& stages, const std::vector<ConvGeometry>& geometries, std::size_t budget) {
  for (std::size_t i = 0; i < stages.size(); ++i) row_bytes[i] = geometries[i].in[2] * stages[i].shape().channels_in;
  const std::size_t rows = height(geometries.back().out);
  strip_rows = rows;
  while (strip_rows > 1 && place(stages, geometries) > budget) strip_rows = (strip_rows + 1) / 2;
  if (strip_rows < rows) strip_rows = std::min(strip_rows, rows_of_task(stages, geometries));
  strips = (rows + strip_rows - 1) / strip_rows;
  bytes = place(stages, geometries);
  if (strips > 1) return;
  images = std::clamp<std::size_t>(budget / std::max<std::size_t>(bytes, 1), 1, geometries[0].batch);
  bytes = place(stages, geometries);
}

// Gives every buffer its place; how many bytes they take.
std::size_t Plan::place(const std::vector<PackedConv>& stages, const std::vector<ConvGeometry>& geometries) {
  std::size_t end = 0;
  std::size_t rows = strip_rows;
  for (std::size_t i = stages.size(); --i > 0;) {
    rows = strip_rows == height(geometries.back().out)
               ? height(geometries[i].in)
               : std::min(reach(stages[i].shape(), rows), height(geometries[i].in));
    buffers[i] = end;
    end += whole_lines(images * rows * row_bytes[i]);
  }
  return end;
}

// What a thread keeps from strip to strip and from run to run.
struct Workspace {
  AlignedVector<std::uint8_t> bytes;
  std::uint64_t run = 0;  // that the rows belong to
  std::size_t image = 0;
  std::size_t next_row = 0;       // of the last output
  Rows held[kMaxStages];          // of each stage's input

  static Workspace& of_thread(std::size_t bytes) {
    thread_local Workspace workspace;
    if (workspace.bytes.size() < bytes) workspace.bytes.resize(bytes);
    return workspace;
  }
};

OutputTensors moved(OutputTensors tensors, std::size_t values) {
  if (tensors.y != nullptr) tensors.y += values;
  if (tensors.y_float != nullptr) tensors.y_float += values;
  if (tensors.y2 != nullptr) tensors.y2 += values;
  for (const float*& residual : tensors.residuals) {
    if (residual != nullptr) residual += values;
  }
  return tensors;
}

struct ChainRun {
  const std::vector<PackedConv>& stages;
  const std::vector<ConvGeometry>& geometries;
  const Plan& plan;
  const std::uint8_t* x;
  const OutputTensors& outputs;

  std::size_t pixel_row(std::size_t stage) const {  // values of an output row
    return geometries[stage].out[2] * stages[stage].shape().channels_out;
  }
};

// Strips of one image, on one thread.
class Strip {
 public:
  Strip(const ChainRun& run, Workspace& workspace, std::size_t image)
      : run_(run), workspace_(workspace), image_(image) {}

  void compute_last(const Rows& rows) {
    const std::size_t last = run_.stages.size() - 1;
    const std::size_t row = image_ * height(run_.geometries[last].out) + rows.begin;
    compute(last, rows, moved(run_.outputs, row * run_.pixel_row(last)));
  }

 private:
  void compute(std::size_t stage, const Rows& out, const OutputTensors& outputs) {
    const ConvShape& shape = run_.stages[stage].shape();
    ConvGeometry geometry = run_.geometries[stage];
    const Rows in = rows_seen(shape, geometry, out);
    const std::uint8_t* source = input(stage, in);
    geometry.pads_begin[1] = static_cast<std::ptrdiff_t>(in.begin) - first_row_seen(shape, geometry, out.begin);
    geometry.batch = 1;
    geometry.in[1] = in.count();
    geometry.out[1] = out.count();
    run_.stages[stage].run(geometry, source, outputs, for_each_serial);
  }

  const std::uint8_t* input(std::size_t stage, const Rows& rows) {
    const std::size_t row_bytes = run_.plan.row_bytes[stage];
    if (stage == 0) return run_.x + (image_ * height(run_.geometries[0].in) + rows.begin) * row_bytes;
    std::uint8_t* buffer = workspace_.bytes.data() + run_.plan.buffers[stage];
    Rows& held = workspace_.held[stage];
    if (held.begin <= rows.begin && rows.begin < held.end) {
      std::memmove(buffer, buffer + (rows.begin - held.begin) * row_bytes, (held.end - rows.begin) * row_bytes);
      held.begin = rows.begin;
    } else {
      held = {rows.begin, rows.begin};
    }
    if (held.end < rows.end) {
      OutputTensors outputs;
      outputs.y = buffer + held.count() * row_bytes;
      compute(stage - 1, {held.end, rows.end}, outputs);
      held.end = rows.end;
    }
    return buffer;
  }

  const ChainRun& run_;
  Workspace& workspace_;
  const std::size_t image_;
};

void run_strip(const ChainRun& run, std::uint64_t id, std::size_t task) {
  Workspace& workspace = Workspace::of_thread(run.plan.bytes);
  const std::size_t image = task / run.plan.strips;
  const std::size_t begin = task % run.plan.strips * run.plan.strip_rows;
  const Rows rows{begin, std::min(begin + run.plan.strip_rows, height(run.geometries.back().out))};
  if (workspace.run != id || workspace.image != image || workspace.next_row != begin) {
    std::fill(std::begin(workspace.held), std::end(workspace.held), Rows{});
  }
  Strip(run, workspace, image).compute_last(rows);
  workspace.run = id;
  workspace.image = image;
  workspace.next_row = rows.end;
}

void run_images(const ChainRun& run, std::size_t first, std::size_t images, const ForEach& for_each) {
  Workspace& workspace = Workspace::of_thread(run.plan.bytes);
  const std::uint8_t* source = run.x + first * height(run.geometries[0].in) * run.plan.row_bytes[0];
  for (std::size_t i = 0; i < run.stages.size(); ++i) {
    ConvGeometry geometry = run.geometries[i];
    geometry.batch = images;
    const bool last = i + 1 == run.stages.size();
    OutputTensors outputs;
    if (last) {
      outputs = moved(run.outputs, first * height(geometry.out) * run.pixel_row(i));
    } else {
      outputs.y = workspace.bytes.data() + run.plan.buffers[i + 1];
    }
    run.stages[i].run(geometry, source, outputs, for_each);
    source = outputs.y;
  }
}

}  // namespace

void ConvChain::run(const std::vector<ConvGeometry>& geometries, const std::uint8_t* x, const OutputTensors& outputs,
                    const ForEach& for_each) const {
  static std::atomic<std::uint64_t> runs{0};
  const Plan plan(stages_, geometries, budget_);
  const ChainRun run{stages_, geometries, plan, x, outputs};
  const std::size_t batch = geometries[0].batch;
  if (plan.strips > 1) {
    const std::uint64_t id = ++runs;
    for_each(batch * plan.strips, [&](std::size_t task) { run_strip(run, id, task); });
    return;
  }
  for (std::size_t first = 0; first < batch; first += plan.images) {
    run_images(run, first, std::min(plan.images, batch - first), for_each);
  }
}

}  // namespace ort_quant
