include $(sort $(wildcard $(BR2_EXTERNAL_TIDEGATE_PATH)/package/*/*.mk))
