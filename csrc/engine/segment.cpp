#include "engine/segment.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/check.h"
#include "engine/os.h"

#ifdef __linux__
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace scrimp {

#ifdef __linux__

namespace {

[[noreturn]] void fail(int error, const char* what) { throw std::system_error(error, std::generic_category(), what); }

std::size_t round_up(std::size_t nbytes) {
  constexpr std::size_t kGrain = std::size_t{2} << 20;  // a huge page
  return (nbytes + kGrain - 1) / kGrain * kGrain;
}

}  // namespace

Segment Segment::create(std::size_t nbytes) {
  require(nbytes > 0, "a segment needs at least one byte");
  const int fd = memfd_create("scrimp", MFD_CLOEXEC);
  if (fd < 0) fail(errno, "cannot create shared memory");
  // posix_fallocate, not ftruncate: the latter promises pages that a full machine cannot deliver.
  const int error = posix_fallocate(fd, 0, static_cast<off_t>(nbytes));
  if (error) {
    ::close(fd);
    fail(error, "cannot allocate shared memory");
  }
  return {fd, nbytes};
}

Segment Segment::open(int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) fail(errno, "cannot open shared memory");
  return {fd, static_cast<std::size_t>(info.st_size)};
}

Segment::Segment(int fd, std::size_t nbytes) : fd_(fd), data_(nullptr), nbytes_(nbytes) {
  void* memory = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    ::close(fd);
    fail(error, "cannot map shared memory");
  }
  data_ = static_cast<std::byte*>(memory);
}

Segment::Segment(Segment&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), data_(std::exchange(other.data_, nullptr)), nbytes_(other.nbytes_) {}

Segment::~Segment() {
  if (data_) munmap(data_, nbytes_);
  if (fd_ >= 0) ::close(fd_);
}

Extent::Extent(Extent&& other) noexcept
    : fd_(other.fd_), offset_(other.offset_), reserved_(other.reserved_), mapped_(other.mapped_),
      data_(std::exchange(other.data_, nullptr)) {}

Extent::~Extent() {
  if (data_) munmap(data_, mapped_);
}

void Extent::reserve(std::size_t nbytes) {
  if (nbytes <= reserved_) return;
  nbytes = round_up(nbytes);
  const int error = posix_fallocate(fd_, static_cast<off_t>(offset_ + reserved_), static_cast<off_t>(nbytes - reserved_));
  if (error) fail(error, "cannot allocate shared memory");
  reserved_ = nbytes;
}

std::byte* Extent::map(std::size_t nbytes) {
  if (nbytes <= mapped_) return data_;
  nbytes = round_up(std::max(nbytes, mapped_ + mapped_ / 2));  // what lies behind the file's end is never touched
  if (data_) munmap(data_, mapped_);
  data_ = nullptr;
  mapped_ = 0;
  void* memory = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, static_cast<off_t>(offset_));
  if (memory == MAP_FAILED) fail(errno, "cannot map shared memory");
  madvise(memory, nbytes, MADV_HUGEPAGE);
  mapped_ = nbytes;
  return data_ = static_cast<std::byte*>(memory);
}

Workspace::~Workspace() {
  if (data_) munmap(data_, nbytes_);
}

std::byte* Workspace::reserve(std::size_t nbytes) {
  if (nbytes <= nbytes_) return data_;
  if (data_) munmap(data_, nbytes_);
  data_ = nullptr;
  nbytes_ = 0;
  nbytes = round_up(nbytes);
  void* memory = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail(errno, "cannot allocate memory");
  madvise(memory, nbytes, MADV_HUGEPAGE);
  nbytes_ = nbytes;
  return data_ = static_cast<std::byte*>(memory);
}

bool engine_supported() {
  const int fd = open_pidfd(getpid());
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

#else

Segment Segment::create(std::size_t) { unsupported_engine(); }
Segment Segment::open(int) { unsupported_engine(); }
Segment::Segment(int fd, std::size_t nbytes) : fd_(fd), data_(nullptr), nbytes_(nbytes) {}
Segment::Segment(Segment&& other) noexcept : fd_(other.fd_), data_(other.data_), nbytes_(other.nbytes_) {}
Segment::~Segment() = default;
Extent::Extent(Extent&&) noexcept = default;
Extent::~Extent() = default;
void Extent::reserve(std::size_t) { unsupported_engine(); }
std::byte* Extent::map(std::size_t) { unsupported_engine(); }
Workspace::~Workspace() = default;
std::byte* Workspace::reserve(std::size_t) { unsupported_engine(); }
bool engine_supported() { return false; }

#endif

}  // namespace scrimp
