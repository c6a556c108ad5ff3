################################################################################
#
# tidegate
#
################################################################################

TIDEGATE_SITE = $(BR2_EXTERNAL_TIDEGATE_PATH)/..
TIDEGATE_SITE_METHOD = local
# legal-info would pack the whole folder beside this tree, builds and the keys of updates included; whoever wants the sources has them already.
TIDEGATE_REDISTRIBUTE = NO
TIDEGATE_LICENSE = MIT or Apache-2.0
TIDEGATE_LICENSE_FILES = LICENSE LICENSE-MIT LICENSE-APACHE
TIDEGATE_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude /target --exclude /tests/fuzz/target

ifeq ($(BR2_PACKAGE_TIDEGATE_PREBUILT),y)

TIDEGATE_BINARY = $(call qstrip,$(BR2_PACKAGE_TIDEGATE_PREBUILT_BINARY))

ifeq ($(BR_BUILDING),y)
ifeq ($(wildcard $(TIDEGATE_BINARY)),)
$(error BR2_PACKAGE_TIDEGATE_PREBUILT_BINARY names no file: "$(TIDEGATE_BINARY)"; "cargo xtask cross" builds one)
endif
endif

define TIDEGATE_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(TIDEGATE_BINARY) $(TARGET_DIR)/usr/bin/gateway-daemon
endef

$(eval $(generic-package))

else

TIDEGATE_CARGO_BUILD_OPTS = --package gateway-daemon --bin gateway-daemon

# SQLite as .cargo/config.toml says, why stands there; the profile is `firmware` of Cargo.toml.
TIDEGATE_SQLITE_FLAGS = \
	-DHAVE_FDATASYNC=1 \
	-USQLITE_ENABLE_FTS3 -USQLITE_ENABLE_FTS3_PARENTHESIS -USQLITE_ENABLE_FTS5 -USQLITE_ENABLE_RTREE -USQLITE_ENABLE_STAT4 \
	-USQLITE_ENABLE_DBSTAT_VTAB -USQLITE_ENABLE_LOAD_EXTENSION -USQLITE_SOUNDEX \
	-DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_JSON -DSQLITE_OMIT_SHARED_CACHE -DSQLITE_OMIT_DEPRECATED
TIDEGATE_CARGO_ENV = \
	LIBSQLITE3_FLAGS="$(strip $(TIDEGATE_SQLITE_FLAGS))" \
	CARGO_PROFILE_RELEASE_LTO=fat \
	CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1

# Buildroot vendors crates while it downloads, which a local source skips: `make source` fetches them into the folder of the downloads, by the
# checksums of Cargo.lock, and the build does without a network as that of any other package.
TIDEGATE_FETCH = $(TARGET_MAKE_ENV) $(PKG_CARGO_ENV) cargo fetch --locked --target $(RUSTC_TARGET_NAME)

.PHONY: tidegate-crates
tidegate-crates: host-rustc
	cd $(TIDEGATE_SITE) && $(TIDEGATE_FETCH)

source: tidegate-crates

define TIDEGATE_FIND_CRATES
	cd $(@D) && $(TIDEGATE_FETCH) --offline || \
		{ echo "the crates of the daemon are not there: run 'make source' first, with a network" >&2; exit 1; }
endef
TIDEGATE_PRE_BUILD_HOOKS += TIDEGATE_FIND_CRATES

# `cargo install` would build all packages of the workspace a second time.
define TIDEGATE_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/release/gateway-daemon \
		$(TARGET_DIR)/usr/bin/gateway-daemon
endef

$(eval $(cargo-package))

endif
