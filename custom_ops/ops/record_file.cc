#include "record_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "ort.h"

namespace ort_quant {
namespace {

// ---- text ------------------------------------------------------------------------------------------------------

std::string trimmed(const std::string& line) {
  const std::size_t begin = line.find_first_not_of(" \t\r");
  if (begin == std::string::npos) return "";
  return line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1);
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// The bytes of a quoted text-proto string, with protobuf's escapes (\n, \", \\, octal, hex) resolved.
std::string unquoted(const std::string& literal) {
  const auto digits = [&](std::size_t& i, int base, int most) {
    int value = 0;
    for (int n = 0; n < most && i < literal.size() - 1; ++n, ++i) {
      const char digit[] = {literal[i], '\0'};
      char* end = nullptr;
      const long parsed = std::strtol(digit, &end, base);
      if (*end != '\0') break;
      value = value * base + static_cast<int>(parsed);
    }
    return static_cast<char>(value);
  };
  std::string bytes;
  for (std::size_t i = 1; i + 1 < literal.size();) {
    const char c = literal[i++];
    if (c != '\\') {
      bytes += c;
      continue;
    }
    const char escape = literal[i];
    if (escape >= '0' && escape <= '7') {
      bytes += digits(i, 8, 3);
    } else if (escape == 'x' || escape == 'X') {
      bytes += digits(++i, 16, 2);
    } else {
      ++i;
      static const char kLetters[] = "abfnrtv";
      static const char kValues[] = "\a\b\f\n\r\t\v";
      const char* letter = std::strchr(kLetters, escape);
      bytes += letter != nullptr ? kValues[letter - kLetters] : escape;
    }
  }
  return bytes;
}

bool is_key_line(const std::string& line, const std::string& layer) {
  const std::string text = trimmed(line);
  if (text.rfind("key:", 0) != 0) return false;
  const std::string literal = trimmed(text.substr(4));
  return literal.size() >= 2 && literal.front() == literal.back() && unquoted(literal) == layer;
}

// The line `value {` of the layer's entry; the number of lines if there is none.
std::size_t find_value(const std::vector<std::string>& lines, const std::string& layer) {
  for (std::size_t i = 0; i + 1 < lines.size(); ++i) {
    if (is_key_line(lines[i], layer)) return trimmed(lines[i + 1]) == "value {" ? i + 1 : lines.size();
  }
  return lines.size();
}

bool is_replaced_field(const std::string& line, const RecordFields& fields) {
  const std::string text = trimmed(line);
  return std::any_of(fields.replaced.begin(), fields.replaced.end(),
                     [&](const std::string& field) { return text.rfind(field + ":", 0) == 0; });
}

// ---- file ------------------------------------------------------------------------------------------------------

[[noreturn]] void fail(const std::string& what, const std::string& path, int error, const std::string& cure) {
  throw OpError("cannot " + what + " the record file " + path + ": " + std::strerror(error) + ". " + cure);
}

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

bool same_file(int descriptor, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(descriptor, &opened) == 0 && ::stat(path.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

// Opens and locks the file itself. Another process may have replaced the file between opening and locking, then
// the lock is on a file that has no name any more, and the next one is tried. Nothing is written through the
// descriptor, but NFS emulates flock by fcntl locks, and an exclusive one of those needs a writable descriptor.
std::unique_ptr<File> open_locked(const std::string& path) {
  for (;;) {
    auto file = std::make_unique<File>(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (file->get() < 0) {
      fail("open", path, errno, "Run quantize_model first, run the session in the folder that relative paths start "
                                "from, and keep the file writable.");
    }
    while (::flock(file->get(), LOCK_EX) != 0) {
      if (errno != EINTR) fail("lock", path, errno, "Put the record file on a file system with locks (flock).");
    }
    if (same_file(file->get(), path)) return file;
  }
}

std::string read_all(const File& file, const std::string& path) {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = ::read(file.get(), buffer, sizeof buffer);
    if (count == 0) return text;
    if (count > 0) {
      text.append(buffer, static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      fail("read", path, errno, "Check the file.");
    }
  }
}

void replace_file(const std::string& path, const File& old, const std::string& text) {
  const char* const kCure = "Make its folder writable and check the free space.";
  std::string temporary = path + ".XXXXXX";
  const File file(::mkstemp(&temporary[0]));
  if (file.get() < 0) fail("write beside", path, errno, kCure);
  const auto give_up = [&] {
    const int error = errno;
    ::unlink(temporary.c_str());
    fail("replace", path, error, kCure);
  };
  struct stat attributes {};
  if (::fstat(old.get(), &attributes) != 0 || ::fchmod(file.get(), attributes.st_mode & 07777) != 0) give_up();
  for (std::size_t written = 0; written < text.size();) {
    const ssize_t count = ::write(file.get(), text.data() + written, text.size() - written);
    if (count >= 0) {
      written += static_cast<std::size_t>(count);
    } else if (errno != EINTR) {
      give_up();
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) give_up();
}

// The path with symbolic links resolved, so that replacing the file does not replace a link to it.
std::string resolved(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  return real ? real.get() : path;
}

}  // namespace

RecordFields activation_fields(const ActivationRecord& record) {
  const std::string scale = "scale_" + record.suffix;
  const std::string offset = "offset_" + record.suffix;
  RecordFields fields;
  fields.lines = {scale + ": " + to_text(record.range.scale, 10), offset + ": " + std::to_string(record.range.offset),
                  "act_type: \"INT" + std::to_string(record.bits) + "\"",
                  "op_data_type: '" + record.op_data_type + "'"};
  if (record.precision_mode != "DEFAULT") {
    fields.lines.push_back("fakequant_precision_mode: '" + record.precision_mode + "'");
  }
  fields.replaced = {scale, offset, "act_type", "op_data_type", "fakequant_precision_mode"};
  return fields;
}

RecordFields repeated_field(const std::string& name, const std::vector<std::string>& values) {
  RecordFields fields;
  for (const std::string& value : values) fields.lines.push_back(name + ": " + value);
  fields.replaced = {name};
  return fields;
}

std::string insert_record_fields(const std::string& text, const std::string& layer, const RecordFields& fields,
                                 const std::string& path) {
  const std::vector<std::string> lines = split_lines(text);
  std::size_t value = find_value(lines, layer);
  if (value == lines.size()) value = find_value(lines, right_trimmed(layer));
  if (value == lines.size()) {
    throw OpError("Cannot find \"" + layer + "\" in record file " + path +
                  ". Use the record file that quantize_model wrote together with this model, in its layout (a line "
                  "'key: \"" + layer + "\"' followed by a line 'value {').");
  }
  std::string result;
  for (std::size_t i = 0; i <= value; ++i) result += lines[i] + "\n";
  for (const std::string& line : fields.lines) result += "    " + line + "\n";
  std::size_t i = value + 1;
  for (; i < lines.size() && trimmed(lines[i]) != "}"; ++i) {
    if (!is_replaced_field(lines[i], fields)) result += lines[i] + "\n";
  }
  for (; i < lines.size(); ++i) result += lines[i] + "\n";
  return result;
}

void write_record_fields(const std::string& path, const std::vector<std::string>& layers, const RecordFields& fields) {
  const std::string target = resolved(path);
  const std::unique_ptr<File> file = open_locked(target);
  std::string text = read_all(*file, path);
  for (const std::string& layer : layers) text = insert_record_fields(text, layer, fields, path);
  replace_file(target, *file, text);
}

}  // namespace ort_quant
