"""The official libraries by identity: git blob ids of every Linux and Android build of every tag.

Source: the tree of each release tag of airockchip/rknn-llm. A match is proof, a miss says nothing.
"""

from __future__ import annotations

OFFICIAL_BLOBS: dict[str, tuple[str, str]] = {
    "66dfdc7c25cdca9ccf9930798118e17abf7592ff": ("1.1.0", "linux_aarch64"),
    "9b5ff7f87f5f49655428de4f3dbef613d5a6b6c5": ("1.1.0", "android_arm64_v8a"),
    "bfca051375287d0f5aa754a7b8681b4ede52e259": ("1.1.1", "linux_aarch64"),
    "9cb37c73de4f51650f61ad3427bdf11c558ae499": ("1.1.1", "android_arm64_v8a"),
    "e8f4afc38c7394beeff83003dbc772412f649a44": ("1.1.2", "linux_aarch64"),
    "87b6735ebb37a88616e559c81ce7700ae26d440b": ("1.1.2", "android_arm64_v8a"),
    "68e79327e82f675413956be615f48c62ccd0f16e": ("1.1.3", "linux_aarch64"),
    "ecc05306766660bd79a708200948f3d009efe4ba": ("1.1.3", "android_arm64_v8a"),
    "3bb8cb6172c4c06e1c622c8f8c579888378784f4": ("1.1.4", "linux_aarch64"),
    "3f173bdf016d346690d2ccad52480efc53234b3e": ("1.1.4", "android_arm64_v8a"),
    "d45ee9b8dcb9ef27d7dd875ce3be3d5e6dfb654d": ("1.2.0", "linux_aarch64"),
    "d61b58e295a1e88f3c690df316bfd83eec4bd16d": ("1.2.0", "android_arm64_v8a"),
    "db041c01bba5e0e8f624bb2ff50d48825dde1bfc": ("1.2.1b1", "linux_aarch64"),
    "08dc9db1a201c0a87f596c7667d5dc98ca16a7d9": ("1.2.1b1", "android_arm64_v8a"),
    "6b9439d59f2fe4bb8ef5ee2b09c102f1bf993da9": ("1.2.1", "linux_aarch64"),
    "7025f35825e04ad75d839d10392e3c02cc88e57a": ("1.2.1", "linux_armhf"),
    "4464ccb4f167d72dbd61fe1c92b44976ed45dda5": ("1.2.1", "android_arm64_v8a"),
    "232dc7a18d14dd0c47fd9f6f3b8581e07cdddc92": ("1.2.1", "android_armeabi_v7a"),
    "8ed9cca16f8d5ad8f7cdd7d393de6561182b3395": ("1.2.2", "linux_aarch64"),
    "d5953fdad6e60521f1dc696f6d638425c93ba08d": ("1.2.2", "linux_armhf"),
    "471639b60c2c7fdcb2c8dffd553acc8548d10c2e": ("1.2.2", "android_arm64_v8a"),
    "b7310ed2a1c1c054adf82c8883d9b339b5e7d1a0": ("1.2.2", "android_armeabi_v7a"),
    "0084abc34ab43359cfa9fd5d4c92ece34127dbd0": ("1.2.3", "linux_aarch64"),
    "fe1ca6849603a770c54f82d26b826a120c79a01a": ("1.2.3", "linux_armhf"),
    "348986e7a8170ddb2c3b43e99257d2e64d9699f6": ("1.2.3", "android_arm64_v8a"),
    "d53acaf083edd95a1bac3513cc5c5241c1cc272c": ("1.2.3", "android_armeabi_v7a"),
    "34167b32f99cb7ab19e21fb579fb750d96b878f1": ("1.3.0", "linux_aarch64"),
    "17c9063b46168c4e7d093d6fedb097874f92d076": ("1.3.0", "linux_armhf"),
    "5f0bd5f39bd05263a59786733687d29e66982aa6": ("1.3.0", "android_arm64_v8a"),
    "f96c82ba91731e14905d95bda44555b191dbe996": ("1.3.0", "android_armeabi_v7a"),
}
"""sha1(b"blob <size>\\0" + file) -> (version, build)."""
