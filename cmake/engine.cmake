# SPDX-License-Identifier: Apache-2.0
# The engine's sources and the flags of each kernel file: one list for every build (this project's, bindings/java's, Android's).
# Sets engine_sources; expects root, the project's folder. Kernel files end in the name of their instruction set; those of other
# processors are left out.
file(GLOB engine_sources CONFIGURE_DEPENDS ${root}/src/base/*.c ${root}/src/model/*.c ${root}/src/kernels/*.c ${root}/src/engine/*.c)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    list(FILTER engine_sources EXCLUDE REGEX "_(neon[a-z]*|wasm)[.]c$")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
    list(FILTER engine_sources EXCLUDE REGEX "_(avx[0-9a-z]*|wasm)[.]c$")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "wasm")
    list(FILTER engine_sources EXCLUDE REGEX "_(avx[0-9a-z]*|neon[a-z]*)[.]c$")
else()
    list(FILTER engine_sources EXCLUDE REGEX "_(avx[0-9a-z]*|neon[a-z]*|wasm)[.]c$")
endif()
set(kernel_level -O3)
if(QCNN_SANITIZE OR QCNN_FUZZ OR QCNN_THREAD_SANITIZE)
    set(kernel_level -O1) # unrolled loops full of checks take clang minutes to optimize
endif()
set_source_files_properties(${engine_sources} PROPERTIES COMPILE_OPTIONS "${kernel_level}")
foreach(source ${engine_sources}) # inner loops live in the kernels: -O3 would only make the rest larger
    # codebook_bytes.c has a loop for vectors; the two of the kernels would double
    if(source MATCHES "/src/(base|model|engine)/" AND NOT source MATCHES "/codebook_bytes[.]c$" OR source MATCHES "/(quads|lut_bytes)_c[.]c$")
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O2")
    endif()
    if(source MATCHES "/dense_bytes_c[.]c$") # as fast, and a third of the size
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O2;-ftree-vectorize")
    endif()
    # no loops over weights or activations in these
    if(source MATCHES "/src/model/(container_(attributes|graph|read|tensors)|cost|model|prepare|shapes)[.]c" OR
       source MATCHES "/src/engine/(layers|memory_plan|move|planes|pool|session)[.]c")
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-Os;-fno-builtin-snprintf") # no strcpy instead
    endif()
endforeach()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    file(GLOB avx2_sources CONFIGURE_DEPENDS ${root}/src/kernels/*_avx2.c)
    set_source_files_properties(${avx2_sources} PROPERTIES COMPILE_OPTIONS "${kernel_level};-mavx2;-mfma")
    set(avx512_flags "${kernel_level};-mavx2;-mfma;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mprefer-vector-width=512")
    file(GLOB avx512_sources CONFIGURE_DEPENDS ${root}/src/kernels/*_avx512*.c)
    set_source_files_properties(${avx512_sources} PROPERTIES COMPILE_OPTIONS "${avx512_flags}")
    string(REPLACE "-O3" "-O2" avx512_small "${avx512_flags}") # two fifths smaller, as fast
    set_source_files_properties(${root}/src/kernels/quantize_avx512.c PROPERTIES COMPILE_OPTIONS "${avx512_small}")
    file(GLOB avx512vnni_sources CONFIGURE_DEPENDS ${root}/src/kernels/*_avx512vnni.c)
    set_source_files_properties(${avx512vnni_sources} PROPERTIES COMPILE_OPTIONS "${avx512_flags};-mavx512vnni")
    file(GLOB avx512vbmi_sources CONFIGURE_DEPENDS ${root}/src/kernels/*_avx512vbmi.c)
    set_source_files_properties(${avx512vbmi_sources} PROPERTIES COMPILE_OPTIONS "${avx512_flags};-mavx512vnni;-mavx512vbmi")
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
    file(GLOB dot_sources CONFIGURE_DEPENDS ${root}/src/kernels/*_neondot.c)
    set_source_files_properties(${dot_sources} PROPERTIES COMPILE_OPTIONS "${kernel_level};-march=armv8.2-a+dotprod")
endif()
