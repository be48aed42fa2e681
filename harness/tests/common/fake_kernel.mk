VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 7
EXTRAVERSION =
NAME = Fake
objects := $(patsubst kernel/%.c,$(O)/%.o,$(wildcard kernel/*.c))
tinyconfig:
	@echo '  GEN     config'
	@mkdir -p $(O)
	@echo '# CONFIG_TINY is not set' > $(O)/.config
olddefconfig:
	@sed -i '/CONFIG_DENIED/d' $(O)/.config
vmlinux: $(O)/vmlinux
$(O)/%.o: kernel/%.c include/common.h
	@echo '  CC      kernel/$*.o'
	@test ! -e KILLED || { echo half > $@; kill -9 $$PPID; }
	@$(CC) -Iinclude -c -ffreestanding -o $@ $<
	@touch $(O)/.$*.o.cmd
$(O)/vmlinux: $(objects)
	@echo '  LD      vmlinux'
	@ld -e f -o $@ $(objects)
	@nm $@ > $(O)/System.map
	@mkdir -p $(O)/include/config
	@echo 6.12.7 > $(O)/include/config/kernel.release
