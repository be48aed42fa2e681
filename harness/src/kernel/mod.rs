// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sources, series, configuration, build, cache: everything up to a kernel image.
