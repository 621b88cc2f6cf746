// The record file: layout, replacement, names that text proto escapes, and writers in parallel (threads and processes).

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "check.h"
#include "ort.h"
#include "record_file.h"

// Stands before the C library's flock and refuses as NFS does, which emulates it by fcntl locks: an exclusive lock
// needs a descriptor open for writing.
extern "C" int flock(int descriptor, int operation) noexcept {
  if ((::fcntl(descriptor, F_GETFL) & O_ACCMODE) == O_RDONLY) {
    errno = EBADF;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_flock, descriptor, operation));
}

namespace {

using namespace ort_quant;

ActivationRecord sample_record(float scale = 0.0405273363f) {
  ActivationRecord record;
  record.range = {scale, -3};
  record.op_data_type = "FLOAT32";
  record.precision_mode = "DEFAULT";
  return record;
}

std::string insert_sample(const std::string& text, const std::string& layer, const ActivationRecord& record,
                          const std::string& path) {
  return insert_record_fields(text, layer, activation_fields(record), path);
}

void write_sample(const std::string& path, const std::vector<std::string>& layers, const ActivationRecord& record) {
  write_record_fields(path, layers, activation_fields(record));
}

std::string entry(const std::string& key, const std::string& fields = "    scale_w: 0.5\n    offset_w: 0\n") {
  return "record {\n  key: \"" + key + "\"\n  value {\n" + fields + "  }\n}\n";
}

const char* const kInserted =
    "    scale_d: 0.0405273363\n    offset_d: -3\n    act_type: \"INT8\"\n    op_data_type: 'FLOAT32'\n";

void test_insertion() {
  const std::string text = entry("a") + entry("conv") + entry("conv2");
  const std::string want =
      entry("a") + entry("conv", std::string(kInserted) + "    scale_w: 0.5\n    offset_w: 0\n") + entry("conv2");
  const std::string once = insert_sample(text, "conv", sample_record(), "r.txt");
  CHECK(once == want, once);
  CHECK(insert_sample(once, "conv", sample_record(), "r.txt") == want, "written twice");
  CHECK(insert_sample(entry("a", ""), "a", sample_record(), "r.txt") == entry("a", kInserted));
}

void test_precision_mode_and_state() {
  ActivationRecord record = sample_record();
  record.precision_mode = "FORCE_FP16_QUANT";
  record.suffix = "h";
  record.bits = 16;
  const std::string got = insert_sample(entry("a", ""), "a", record, "r.txt");
  CHECK(got == entry("a", "    scale_h: 0.0405273363\n    offset_h: -3\n    act_type: \"INT16\"\n"
                          "    op_data_type: 'FLOAT32'\n    fakequant_precision_mode: 'FORCE_FP16_QUANT'\n"),
        got);
}

void test_repeated_field() {
  const std::string once = insert_record_fields(entry("a"), "a", repeated_field("shift_bit", {"3", "16"}), "r.txt");
  const std::string rest = "    scale_w: 0.5\n    offset_w: 0\n";
  CHECK(once == entry("a", "    shift_bit: 3\n    shift_bit: 16\n" + rest), once);
  const std::string again = insert_record_fields(once, "a", repeated_field("shift_bit", {"4"}), "r.txt");
  CHECK(again == entry("a", "    shift_bit: 4\n" + rest), again);
}

void test_escaped_names() {
  const std::pair<const char*, const char*> cases[] = {
      {"a\\\"b", "a\"b"},          {"a\\\\b", "a\\b"}, {"a\\'b", "a'b"},   {"\\303\\244/conv", "\xC3\xA4/conv"},
      {"\xC3\xA4/conv", "\xC3\xA4/conv"}, {"a\\tb\\n", "a\tb\n"}, {"\\x41\\1012", "AA2"}, {"layer:0", "layer:0"}};
  for (const auto& [escaped, name] : cases) {
    CHECK(insert_sample(entry(escaped, ""), name, sample_record(), "r.txt") == entry(escaped, kInserted),
          escaped);
  }
}

std::string error_of(const std::string& text, const std::string& layer) {
  try {
    insert_sample(text, layer, sample_record(), "r.txt");
    return "";
  } catch (const OpError& error) {
    return error.what();
  }
}

void test_missing_entries() {
  for (const std::string& text : {std::string(), entry("other"), std::string("record {\n  key: \"a\"\n"),
                                  std::string("record {\n  key: \"a\"\n}\n"), std::string("key: \""), std::string("key:")}) {
    const std::string error = error_of(text, "a");
    CHECK(error.find("Cannot find \"a\" in record file r.txt") != std::string::npos, text, error);
  }
}

void test_trailing_blanks() {
  const std::string both = entry("a", "") + entry("a  ", "");
  CHECK(insert_sample(both, "a  ", sample_record(), "r.txt") == entry("a", "") + entry("a  ", kInserted));
  CHECK(insert_sample(both, "a", sample_record(), "r.txt") == entry("a", kInserted) + entry("a  ", ""));
  CHECK(insert_sample(entry("a", ""), "a  ", sample_record(), "r.txt") == entry("a", kInserted));
  CHECK(error_of(entry("a  ", ""), "a").find("Cannot find \"a\"") != std::string::npos);
  CHECK(error_of(entry("b", ""), "a  ").find("Cannot find \"a  \"") != std::string::npos);
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/ort_quant_XXXXXX";
    if (::mkdtemp(&path_[0]) == nullptr) std::abort();
  }
  ~TemporaryFolder() {
    if (std::system(("rm -r '" + path_ + "'").c_str()) != 0) std::abort();
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void test_file() {
  const TemporaryFolder folder;
  const std::string path = folder / "record.txt";
  std::ofstream(path) << entry("a", "") << entry("b", "");
  ::chmod(path.c_str(), 0640);
  CHECK(::symlink(path.c_str(), (folder / "link").c_str()) == 0);
  write_sample(folder / "link", {"a", "b"}, sample_record());
  CHECK(read(path) == entry("a", kInserted) + entry("b", kInserted), read(path));
  struct stat attributes {};
  CHECK(::lstat((folder / "link").c_str(), &attributes) == 0 && S_ISLNK(attributes.st_mode), "the link was replaced");
  CHECK(::stat(path.c_str(), &attributes) == 0 && (attributes.st_mode & 0777) == 0640, "permissions changed");

  std::string error;
  try {
    write_sample(folder / "none.txt", {"a"}, sample_record());
  } catch (const OpError& caught) {
    error = caught.what();
  }
  CHECK(error.find("none.txt") != std::string::npos && error.find("No such file") != std::string::npos, error);

  const std::string before = read(path);
  try {
    write_sample(path, {"a", "missing"}, sample_record(0.25f));
    CHECK(false, "a missing layer was accepted");
  } catch (const OpError&) {
  }
  CHECK(read(path) == before, "the file changed although one layer is missing");
}

void test_parallel_writers() {
  constexpr int kProcesses = 4;
  constexpr int kThreads = 4;
  constexpr int kLayersEach = 8;
  const TemporaryFolder folder;
  const std::string path = folder / "record.txt";
  const auto layer = [](int process, int thread, int i) {
    return "p" + std::to_string(process) + "t" + std::to_string(thread) + "l" + std::to_string(i);
  };
  std::string empty;
  std::string full;
  for (int p = 0; p < kProcesses; ++p) {
    for (int t = 0; t < kThreads; ++t) {
      for (int i = 0; i < kLayersEach; ++i) {
        empty += entry(layer(p, t, i), "");
        full += entry(layer(p, t, i), kInserted);
      }
    }
  }
  std::ofstream(path) << empty;
  for (int p = 0; p < kProcesses; ++p) {
    if (::fork() != 0) continue;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kLayersEach; ++i) write_sample(path, {layer(p, t, i)}, sample_record());
      });
    }
    for (std::thread& thread : threads) thread.join();
    ::_exit(0);
  }
  for (int p = 0; p < kProcesses; ++p) {
    int status = 0;
    ::wait(&status);
    CHECK(status == 0, "a writer failed", status);
  }
  CHECK(read(path) == full, "an entry was lost");
  CHECK(std::system(("test \"$(ls '" + (folder / "") + "')\" = record.txt").c_str()) == 0, "litter beside the file");
}

}  // namespace

int main() {
  test_insertion();
  test_precision_mode_and_state();
  test_repeated_field();
  test_escaped_names();
  test_missing_entries();
  test_trailing_blanks();
  test_file();
  test_parallel_writers();
  return check::finish("record_file_test");
}
