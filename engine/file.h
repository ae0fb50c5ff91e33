// Files that are whole or not there.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace weft {

/// Replaces the file `path` atomically: writes beside it (`path`.tmp and a number), syncs,
/// renames. Throws Error naming the path and the cause.
void write_file(const std::string& path, std::string_view content);
/// The same from several pieces, one after the other.
void write_file(const std::string& path, const std::string_view* pieces, size_t count);
/// Throws the Error of write_file() now where the folder is not there or may not be written to, or `path` is
/// a folder: before long work whose result is to be written there. Leaves nothing behind.
void check_writable(const std::string& path);
/// The whole file, which may be a pipe. Throws Error where it cannot be read, or is neither (/dev/zero has no
/// end), or it has more than `most` bytes.
std::string read_file(const std::string& path, int64_t most = std::numeric_limits<int64_t>::max());

/// Removes what writers of `path` left beside it that were killed: files `path`.tmpPROCESS-COUNT whose
/// process is no more and that nobody has written to for a minute (it may be a process of another machine, or
/// in another container); young ones, too, where the caller has `locked` everybody else out. Passes over
/// errors.
void remove_leftovers(const std::string& path, bool locked = false);

/// Throws Error naming `path` where the JSON text from that file nests deeper than a parser's stack can bear.
/// To be called before each parse of what a file holds.
void check_nesting(const std::string& path, std::string_view json);

}  // namespace weft
