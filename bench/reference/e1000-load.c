/*
 * What a program inside a guest can ask of an e1000 by itself: registers of its BAR0, mapped through sysfs, and interrupts.
 *
 *   e1000-load IF read MS        reads the register STATUS over and over
 *   e1000-load IF write MS       writes the register VET, as it is, over and over; then reads once, which waits for all of them
 *   e1000-load IF interrupt MS   sets an interrupt cause (ICS) over and over, and counts the interrupts that the kernel got
 *
 * Reads and writes also of any other PCI function that is enabled: its address, as in 0000:00:03.0, stands for IF.
 *
 * Prints one number: how many a second.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "common.h"

/* 82545 manual §13.4 */
#define STATUS 0x0008
#define VET 0x0038
#define ICS 0x00c8
#define ICS_RXT0 0x80

static volatile uint32_t *map_registers(const char *device)
{
	char path[128];
	void *registers;
	int fd;

	if (strchr(device, ':'))
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", device);
	else
		snprintf(path, sizeof(path), "/sys/class/net/%s/device/resource0", device);
	fd = open(path, O_RDWR | O_SYNC);
	check(fd >= 0, path);
	registers = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(registers != MAP_FAILED, "mmap");
	return registers;
}

/* of the line that ends with the interface's name: "10:  41  IO-APIC  10-fasteoi  eth0" */
static double interrupts(const char *interface)
{
	FILE *f = fopen("/proc/interrupts", "r");
	char line[512];
	double count = 0;

	check(f != NULL, "/proc/interrupts");
	while (fgets(line, sizeof(line), f)) {
		size_t length = strcspn(line, "\n"), name = strlen(interface);
		char *colon = strchr(line, ':');

		line[length] = 0;
		if (colon && length > name && strcmp(line + length - name, interface) == 0)
			count += atof(colon + 1);
	}
	fclose(f);
	return count;
}

int main(int argc, char **argv)
{
	volatile uint32_t *registers;
	double start, end, count = 0, before;

	if (argc != 4) {
		fprintf(stderr, "usage: e1000-load IF|ADDRESS read|write|interrupt MS\n");
		return 2;
	}
	registers = map_registers(argv[1]);
	before = interrupts(argv[1]);
	start = now();
	end = start + atof(argv[3]) / 1000;
	if (strcmp(argv[2], "read") == 0) {
		for (; now() < end; count++)
			(void)registers[STATUS / 4];
	} else if (strcmp(argv[2], "write") == 0) {
		uint32_t value = registers[VET / 4];

		for (; now() < end; count++)
			registers[VET / 4] = value;
		(void)registers[STATUS / 4];
	} else {
		while (now() < end) {
			registers[ICS / 4] = ICS_RXT0;
			(void)registers[STATUS / 4];
		}
		count = interrupts(argv[1]) - before;
	}
	printf("%.0f\n", count / (now() - start));
	return 0;
}
