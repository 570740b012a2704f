/*
 * vfio-interrupts: a driver of an 82545EM in user space, by way of the guest's own vfio-pci, which programs MSI and INTx in
 * configuration space as any Linux driver would. Raises causes through ICS and counts what arrives.
 *
 *   vfio-interrupts GROUP PCI-ADDRESS COUNT
 *
 * prints, for each of msi and intx: how many of COUNT interrupts came, whether one came while its cause was masked, and
 * whether one came after the kind was disabled.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { PCI_COMMAND = 0x04, PCI_COMMAND_MEMORY = 0x2, PCI_COMMAND_MASTER = 0x4 };
/* manual §13.4.17 to §13.4.21; LSC is bit 2 */
enum { ICR = 0xc0, ICS = 0xc8, IMS = 0xd0, IMC = 0xd8, LSC = 0x4 };
enum { ARRIVES_MS = 5000, STAYS_AWAY_MS = 100 };

static int device;
static struct vfio_region_info bar0 = { .argsz = sizeof bar0, .index = VFIO_PCI_BAR0_REGION_INDEX };
static struct vfio_region_info config = { .argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX };

static void die(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

static uint32_t reg_read(uint32_t reg)
{
	uint32_t value;
	if (pread(device, &value, 4, bar0.offset + reg) != 4)
		die("read a register");
	return value;
}

static void reg_write(uint32_t reg, uint32_t value)
{
	if (pwrite(device, &value, 4, bar0.offset + reg) != 4)
		die("write a register");
}

static void set_irqs(uint32_t index, uint32_t flags, uint32_t count, int fd)
{
	union {
		struct vfio_irq_set set;
		char bytes[sizeof(struct vfio_irq_set) + sizeof fd];
	} request;
	request.set = (struct vfio_irq_set){ .argsz = sizeof request.set, .flags = flags, .index = index, .count = count };
	if (flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		request.set.argsz += sizeof fd;
		memcpy(request.bytes + sizeof request.set, &fd, sizeof fd);
	}
	if (ioctl(device, VFIO_DEVICE_SET_IRQS, &request) < 0)
		die("VFIO_DEVICE_SET_IRQS");
}

/* 1 if an interrupt came within that time */
static int interrupted(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;
	return poll(&p, 1, ms) == 1 && read(fd, &n, sizeof n) == sizeof n;
}

static void try(const char *name, uint32_t index, int count)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	int intx = index == VFIO_PCI_INTX_IRQ_INDEX;
	int came = 0;
	if (fd < 0)
		die("eventfd");
	reg_write(IMC, ~0u);
	reg_read(ICR);
	set_irqs(index, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 1, fd);
	reg_write(ICS, LSC);
	int masked = interrupted(fd, STAYS_AWAY_MS);
	reg_read(ICR);
	reg_write(IMS, LSC);
	for (int i = 0; i < count; i++) {
		reg_write(ICS, LSC);
		if (!interrupted(fd, ARRIVES_MS))
			break;
		/* the cause is there, and reading it takes it away */
		if (!(reg_read(ICR) & LSC) || reg_read(ICR) != 0)
			break;
		if (intx)
			set_irqs(index, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 1, -1);
		came++;
	}
	set_irqs(index, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, -1);
	reg_write(ICS, LSC);
	int disabled = interrupted(fd, STAYS_AWAY_MS);
	reg_write(IMC, ~0u);
	reg_read(ICR);
	printf("%s %d of %d, masked %d, disabled %d\n", name, came, count, masked, disabled);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		printf("usage: vfio-interrupts GROUP PCI-ADDRESS COUNT\n");
		return 1;
	}
	int container = open("/dev/vfio/vfio", O_RDWR);
	int group = open(argv[1], O_RDWR);
	if (container < 0 || group < 0)
		die(container < 0 ? "/dev/vfio/vfio" : argv[1]);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0)
		die("VFIO_GROUP_SET_CONTAINER");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) < 0)
		die("VFIO_SET_IOMMU");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[2]);
	if (device < 0)
		die(argv[2]);
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar0) < 0 || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) < 0)
		die("VFIO_DEVICE_GET_REGION_INFO");
	uint16_t command;
	if (pread(device, &command, 2, config.offset + PCI_COMMAND) != 2)
		die("read the command register");
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(device, &command, 2, config.offset + PCI_COMMAND) != 2)
		die("write the command register");
	int count = atoi(argv[3]);
	try("msi", VFIO_PCI_MSI_IRQ_INDEX, count);
	try("intx", VFIO_PCI_INTX_IRQ_INDEX, count);
	try("msi again", VFIO_PCI_MSI_IRQ_INDEX, count);
	return 0;
}
