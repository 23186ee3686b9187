"""CPU features that a profile may name, as Linux spells them in /proc/cpuinfo.

Source: arch/x86/include/asm/cpufeatures.h, arch/arm64/kernel/cpuinfo.c and arch/arm/kernel/setup.c of Linux; the levels
x86-64-v2 to -v4: x86-64 psABI, section "Micro-architecture levels".
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


X86 = _names("""
    sse sse2 pni ssse3 sse4_1 sse4_2 sse4a cx16 lahf_lm popcnt aes sha_ni avx avx2 bmi1 bmi2 f16c fma abm movbe xsave
    avx_vnni avx_ifma avx_vnni_int8 gfni vaes avx512f avx512bw avx512cd avx512dq avx512vl avx512ifma avx512vbmi
    avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16
    hypervisor
""")
ARM64 = _names("""
    fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4
    asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp sve2 sveaes svepmull svebitperm svesha3
    svesm4 flagm2 frint svei8mm svebf16 i8mm bf16 dgh rng bti sme
""")
ARM32 = _names("""
    half thumb fastmult vfp edsp neon vfpv3 vfpv4 vfpd32 tls idiva idivt lpae evtstrm aes pmull sha1 sha2 crc32 asimdhp
    asimddp asimdfhm asimdbf16 i8mm
""")
KNOWN = {"x86_64": X86, "aarch64": ARM64, "armv7l": ARM32, "armv8l": ARM32}
"""Machine name as uname prints it -> features that can exist there."""

TRAITS = {
    "dot_product": ("asimddp", "avx_vnni", "avx512_vnni"),
    "int8_matmul": ("i8mm", "svei8mm", "amx_int8"),
    "float16": ("asimdhp", "avx512_fp16"),
    "bfloat16": ("bf16", "svebf16", "avx512_bf16", "amx_bf16", "asimdbf16"),
    "sve": ("sve", "sve2"),
}
"""Numeric trait -> the features that give it; one of them is enough."""
