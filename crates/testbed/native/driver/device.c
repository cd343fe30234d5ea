// The one device, described after an H100.
#include "driver.h"

#include <stdio.h>

#define NAME "NVIDIA H100 80GB HBM3"
#define BUS_ID "0000:04:00.0"

static const unsigned char uuid[16] = "standin-device-0";

int do_cuDeviceGetCount(int *count)
{
    if (!count)
        return INVALID_VALUE;
    *count = 1;
    return SUCCESS;
}

int do_cuDeviceGet(int *device, int ordinal)
{
    if (!device)
        return INVALID_VALUE;
    if (ordinal)
        return INVALID_DEVICE;
    *device = 0;
    return SUCCESS;
}

int do_cuDeviceGetName(char *name, int length, int device)
{
    if (device)
        return INVALID_DEVICE;
    if (!name || length < 1)
        return INVALID_VALUE;
    snprintf(name, length, "%s", NAME);
    return SUCCESS;
}

int do_cuDeviceGetUuid(void *out, int device)
{
    if (device)
        return INVALID_DEVICE;
    if (!out)
        return INVALID_VALUE;
    memcpy(out, uuid, sizeof uuid);
    return SUCCESS;
}

int do_cuDeviceTotalMem(size_t *bytes, int device)
{
    size_t available;
    return device ? INVALID_DEVICE : do_cuMemGetInfo(&available, bytes);
}

// Numbers of CUdevice_attribute.
static const struct {
    int attribute, value;
} attributes[] = {
    {1, 1024},       // threads per block
    {2, 1024},       // block x
    {3, 1024},       // block y
    {4, 64},         // block z
    {5, 2147483647}, // grid x
    {6, 65535},      // grid y
    {7, 65535},      // grid z
    {8, 49152},      // shared memory per block
    {9, 65536},      // constant memory
    {10, 32},        // warp size
    {12, 65536},     // registers per block
    {13, 1980000},   // clock, kHz
    {16, 132},       // multiprocessors
    {31, 1},         // concurrent kernels
    {33, 4},         // PCI bus
    {36, 2619000},   // memory clock, kHz
    {37, 5120},      // memory bus, bits
    {38, 52428800},  // L2
    {39, 2048},      // threads per multiprocessor
    {40, 3},         // copy engines
    {41, 1},         // unified addressing
    {75, 9},         // compute capability, major
    {76, 0},         // compute capability, minor
    {78, 1},         // stream priorities
    {81, 233472},    // shared memory per multiprocessor
    {82, 65536},     // registers per multiprocessor
    {83, 1},         // managed memory
    {95, 1},         // cooperative launch
    {97, 232448},    // shared memory per block, opt-in
    {102, 1},        // virtual memory management
    {115, 1},        // memory pools
};

int do_cuDeviceGetAttribute(int *value, int attribute, int device)
{
    if (device)
        return INVALID_DEVICE;
    if (!value || attribute < 1)
        return INVALID_VALUE;
    *value = 0;
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (attributes[i].attribute == attribute)
            *value = attributes[i].value;
    return SUCCESS;
}

int do_cuDeviceComputeCapability(int *major, int *minor, int device)
{
    int result = do_cuDeviceGetAttribute(major, 75, device);
    return result ? result : do_cuDeviceGetAttribute(minor, 76, device);
}

int do_cuDeviceGetPCIBusId(char *out, int length, int device)
{
    if (device)
        return INVALID_DEVICE;
    if (!out || length < (int)sizeof BUS_ID)
        return INVALID_VALUE;
    memcpy(out, BUS_ID, sizeof BUS_ID);
    return SUCCESS;
}

int do_cuDeviceGetByPCIBusId(int *device, const char *id)
{
    if (!device || !id)
        return INVALID_VALUE;
    if (strcmp(id, BUS_ID))
        return INVALID_DEVICE;
    *device = 0;
    return SUCCESS;
}

// f(int *out, attribute, int source, int destination): there is no second device to reach.
int do_cuDeviceGetP2PAttribute(int *out, int attribute, int source, int destination)
{
    (void)attribute;
    if (!out)
        return INVALID_VALUE;
    *out = 0;
    return source || destination ? INVALID_DEVICE : SUCCESS;
}

int do_cuDeviceCanAccessPeer(int *out, int device, int peer)
{
    return do_cuDeviceGetP2PAttribute(out, 0, device, peer);
}
